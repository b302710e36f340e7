"""Does the best learning rate stay where it is when the model gets wider? A sweep over rates and widths.

python scripts/lr_transfer.py [--out lr-transfer.json] [--widths 32 64 128] [--kind adamw]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from camelid.core import Batch
from camelid.model import Llama4, init_weights
from camelid.train import OptimizerConfig, WarmupStableDecay
from camelid.train.balance import BalanceConfig, Balancer
from camelid.train.metap import MetaPConfig, init_scales
from camelid.train.optimizer import Optimizers
from camelid.train.step import train_step
from coordinate_check import at_width, byte_batches

LAST = 15  # steps whose mean loss is compared
SCHEDULE = WarmupStableDecay(warmup=0.1, decay=0.5)


def final_loss(width: int, optimizer: OptimizerConfig, batches: list[Batch]) -> float:
    """Mean nats a byte over the last steps; every batch is new, so this is no training loss of seen text."""
    config = at_width(width)
    model = init_weights(Llama4(config), 0, init_scales(config, optimizer.metap))
    optimizers, balancer = Optimizers(model, optimizer), Balancer(BalanceConfig())
    losses = []
    for step, batch in enumerate(batches, start=1):
        progress = step / len(batches)
        rate = SCHEDULE(progress - 0.5 / len(batches))
        metrics = train_step(
            model,
            [batch],
            optimizers,
            balancer,
            step=step,
            progress=progress,
            lr_multiplier=rate,
            precision="fp32",
        )
        losses.append(metrics.loss)
    return float(np.mean(losses[-LAST:]))


def best_rate(rates: list[float], losses: list[float]) -> float:
    """The lowest point of a parabola through the best rate and its neighbours, in log rate."""
    place = min(max(int(np.argmin(losses)), 1), len(rates) - 2)
    logs = np.log(rates[place - 1 : place + 2])
    curve, slope, _ = np.polyfit(logs, losses[place - 1 : place + 2], 2)
    if curve <= 0:
        return rates[int(np.argmin(losses))]
    return float(np.exp(np.clip(-slope / (2 * curve), logs[0], logs[-1])))


def main() -> None:
    """Prints a row per width and writes all losses as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("lr-transfer.json"))
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--kind", choices=("adamw", "muon"), default="adamw")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.004, 0.008, 0.016, 0.032, 0.064])
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--documents", type=int, default=2)
    parser.add_argument("--only-metap", action="store_true")
    flags = parser.parse_args()
    batches, began, results = byte_batches(flags.steps, flags.documents), time.monotonic(), []
    for metap in (MetaPConfig(at_width(flags.widths[0])), None):
        if metap is None and flags.only_metap:
            continue
        best = {}
        for width in flags.widths:
            losses = [
                final_loss(width, OptimizerConfig(kind=flags.kind, lr=lr, metap=metap), batches)
                for lr in flags.rates
            ]
            best[width] = best_rate(flags.rates, losses)
            results.append(
                {"is_metap": metap is not None, "width": width, "losses": losses, "best_rate": best[width]}
            )
            cells = " ".join(f"{lr:g}: {loss:.3f}" for lr, loss in zip(flags.rates, losses, strict=True))
            print(f"{'metap' if metap else 'as it is'} {width}: best {best[width]:.4f}   {cells}", flush=True)
        moved = max(best.values()) / min(best.values())
        print(f"{'metap' if metap else 'as it is'}: best rate moves {moved:.2f}x", flush=True)
    print(f"{time.monotonic() - began:.0f} s")
    report = {"schema": "lr-transfer/1", "kind": flags.kind, "rates": flags.rates, "results": results}
    flags.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
