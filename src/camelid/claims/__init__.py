"""Numbers that we stand behind, each with the rule that decides it and the command that checks it.

In: stages, training and recipes. Out: verdicts, results, figures. Must not know: command lines.
"""

from typing import Any

from camelid.claims.claim import SEEDS, Claim, Evidence, Form, Measurement, Verdict
from camelid.claims.distillation import DISTILLATION
from camelid.claims.early_fusion import EARLY_FUSION
from camelid.claims.experts_specialise import EXPERTS_SPECIALISE
from camelid.claims.irope_extrapolates import IROPE_EXTRAPOLATES
from camelid.claims.moe_beats_dense import MOE_BEATS_DENSE
from camelid.claims.page import claims_page
from camelid.claims.result import ClaimResult, load_committed, record
from camelid.claims.runner import run_claim

__all__ = [
    "CLAIMS",
    "SEEDS",
    "Claim",
    "ClaimResult",
    "Evidence",
    "Form",
    "Measurement",
    "Verdict",
    "claims_page",
    "load_committed",
    "record",
    "run_claim",
]

CLAIMS: dict[str, Claim[Any]] = {
    claim.name: claim
    for claim in (IROPE_EXTRAPOLATES, MOE_BEATS_DENSE, DISTILLATION, EARLY_FUSION, EXPERTS_SPECIALISE)
}
