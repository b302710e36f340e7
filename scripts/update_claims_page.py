"""Writes docs/claims.md from the committed results of the claims."""

from __future__ import annotations

from pathlib import Path

from camelid.claims import CLAIMS, claims_page

PAGE = Path(__file__).parents[1] / "docs" / "claims.md"

if __name__ == "__main__":
    PAGE.write_text(claims_page(CLAIMS), encoding="utf-8")
