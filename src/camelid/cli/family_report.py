"""The page of a whole herd: its tree, what teaching gave, what everybody can do, what it cost."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from camelid.cli.report import (
    figure,
    flat,
    folded,
    loss_series,
    modality_maps,
    numbers_list,
    page,
    pictures,
    section,
    short_number,
    table,
)
from camelid.cli.report_plots import loss_curves
from camelid.cli.told_changes import told_changes
from camelid.cli.training_record import spoken_seconds
from camelid.cli.training_run import environment
from camelid.core.run_dir import RunDir
from camelid.eval import GalleryItem, LongContextReport
from camelid.herd import Family
from camelid.herd.family import Descendant
from camelid.herd.stage import PRETRAINING
from camelid.model import active_parameters, total_parameters

__all__ = ["write_family_report"]

STYLE = """
.tree, .tree ul { list-style: none; margin: 0; padding-left: 1.4rem; } .tree { padding-left: 0; }
.tree li { position: relative; padding: 0.3rem 0 0; }
.tree ul > li::before { content: ""; position: absolute; left: -0.8rem; top: 0; height: 100%;
  border-left: 1px solid var(--line); }
.tree ul > li:last-child::before { height: 1.5rem; }
.tree ul > li::after { content: ""; position: absolute; left: -0.8rem; top: 1.5rem; width: 0.7rem;
  border-top: 1px solid var(--line); }
.tree + p { margin-top: 0.8rem; }
.model { display: inline-block; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 0.35rem 0.7rem; } .model b { margin-right: 0.6rem; } .model span { color: var(--soft); font-size: 0.85rem;
  margin-right: 0.6rem; } .model a, td a { color: var(--accent); font-size: 0.85rem; }
.rows td, .rows th { padding-right: 1.4rem; } .rows thead th { vertical-align: bottom; }
.rows td, .rows thead th:not(:first-child) { text-align: right; }
.said { margin: 0.5rem 0.8rem 0; width: calc(100% - 1.6rem); } .said td { font-weight: 600; padding-right: 0; }
.said th { white-space: normal; padding-right: 0.6rem; }
.said .right { color: var(--right); } .said .wrong { color: var(--wrong); }
article.asked { border-top-color: var(--line); }
.wide-cards { grid-template-columns: repeat(auto-fill, minmax(min(250px, 100%), 1fr)); }
td.best { font-weight: 700; } td small { color: var(--soft); font-weight: 400; }
"""


def write_family_report(family: Family, path: Path | None = None) -> Path:
    """Writes the herd's page, by default in its folder; returns where."""
    path = path or family.folder.report_path
    path.write_text(_page(family, path.parent), encoding="utf-8")
    return path


def _page(family: Family, beside: Path) -> str:
    """All of it: no script, nothing from the network, links to the pages of single runs from the page's folder."""
    sections = [
        section("Family", _tree(family, beside)),
        section("What they can do", _scores(family)),
        section("What they say about what they have never seen", _gallery(family)),
        section("Teaching", _gains(family)),
        section("Pretraining", _losses(family)),
        section("Experts", _experts(family)),
        section("What each stage changed", _changes(family)),
        section("Cost", _costs(family, beside)),
        section("Configuration", folded(family.config.to_dict())),
        section("Environment", table(flat(environment(family.folder)))),
    ]
    return page(f"Herd {family.config.name}", numbers_list(_numbers(family)), sections, STYLE)


def _numbers(family: Family) -> dict[str, str]:
    costs, stages = family.costs(), family.state.stages
    return {
        "members": f"{len(family.members)}",
        "stages": f"{sum(one.status == 'finished' for one in stages)} of {len(stages)}",
        "tokens": short_number(sum(cost.num_tokens for cost in costs)),
        "training FLOPs": f"{sum(cost.flops for cost in costs):.2g}",
        "hours, everything": f"{sum(one.seconds for one in stages) / 3600:.2f}",
    }


def _tree(family: Family, beside: Path) -> str:
    descendants = family.descendants()

    def name(one: Descendant) -> str:
        return one.member if one.stage == PRETRAINING else one.stage

    def branch(one: Descendant) -> str:
        if one.stage == PRETRAINING and one.member == family.teacher:
            below = [child for child in descendants if child.parent == family.teacher]
        elif one.stage == PRETRAINING:
            below = [
                child for child in descendants if (child.parent, child.member) == (PRETRAINING, one.member)
            ]
        else:
            below = [child for child in descendants if child.parent == one.stage]
        children = f"<ul>{''.join(map(branch, below))}</ul>" if below else ""
        return f"<li>{card(one)}{children}</li>"

    def card(one: Descendant) -> str:
        told = [f"<b>{html.escape(name(one))}</b>"]
        if one.stage == PRETRAINING:
            model = family.members[one.member]
            total, active = short_number(total_parameters(model)), short_number(active_parameters(model))
            told.append(f"<span>{total} parameters, {active} active</span>")
        told.append(f"<code>{one.digest[:12]}</code>" if one.digest else "<span>not there yet</span>")
        told.append(_link(one.run, beside))
        return f'<div class="model">{" ".join(told)}</div>'

    root = next(one for one in descendants if one.member == family.teacher)
    return f'<ul class="tree">{branch(root)}</ul><p>Digests are sha256 of the end weights.</p>'


def _link(run: RunDir | None, beside: Path) -> str:
    if run is None or not run.report_path.is_file():
        return ""
    return f'<a href="{html.escape(Path(os.path.relpath(run.report_path, beside)).as_posix())}">its run</a>'


def _scores(family: Family) -> str:
    cards = family.scorecards()
    if not cards:
        return "<p>Nobody was asked yet.</p>"
    kinds = list(dict.fromkeys(score.kind for card in cards.values() for score in card.scores))
    best = {
        kind: max(one.accuracy for card in cards.values() for one in card.scores if one.kind == kind)
        for kind in kinds
    }
    rows = []
    for name, card in cards.items():
        cells = [
            (
                f"{one.accuracy:.0%} <small>({one.blind_accuracy:.0%})</small>",
                "best" if one.accuracy == best[one.kind] > 0 else "",
            )
            for one in card.scores
        ]
        prose = [(f"{card.prose.bits_per_byte:.3f}", "")] if card.prose else []
        rows.append((name.removesuffix(f"/{PRETRAINING}"), cells + prose))
    headings = ["", *(kind.replace("-", " ") for kind in kinds)]
    if any(card.prose for card in cards.values()):
        headings.append("prose, bits per byte")
    asked = max(score.num_problems for card in cards.values() for score in card.scores)
    return (
        f"<p>Right answers about what was held out, at most {asked} of each kind; in brackets the blind twin, which "
        "sees other pictures. A score is worth what it has above that. Only the bare answer counts: a chatty variant "
        "may know and get nothing.</p>" + _rows(headings, rows)
    )


def _gallery(family: Family) -> str:
    """Each question once, with what everybody said."""
    galleries = {name.removesuffix(f"/{PRETRAINING}"): items for name, items in family.galleries().items()}
    cards = [
        _asked(dict(zip(galleries, told, strict=True))) for told in zip(*galleries.values(), strict=True)
    ]
    return (
        f'<div class="cards wide-cards">{"".join(cards)}</div>' if cards else "<p>Nobody was asked yet.</p>"
    )


def _asked(answers: Mapping[str, GalleryItem]) -> str:
    """A card of one question; answers by who gave them."""
    item = next(iter(answers.values()))
    rows = (
        f'<tr><th>{html.escape(name)}</th><td class="{"right" if one.is_right else "wrong"}">'
        f"{html.escape(one.answer) or '(nothing)'}</td></tr>"
        for name, one in answers.items()
    )
    return (
        f'<article class="asked">{pictures(item)}<p class="kind">{html.escape(item.kind.replace("-", " "))}</p>'
        f'<p class="question">{html.escape(item.question)}</p><p class="truth">it is: {html.escape(item.truth)}</p>'
        f'<table class="said">{"".join(rows)}</table></article>'
    )


def _experts(family: Family) -> str:
    """Of every member: which experts each modality uses."""
    members = {
        name: rows for name, rows in family.steps().items() if any(row["expert_counts"] for row in rows)
    }
    parts = [
        f'<h3>{html.escape(name)}</h3><div class="grid">{"".join(modality_maps(rows))}</div>'
        for name, rows in members.items()
    ]
    told = (
        "<p>Over the end of pretraining, as a multiple of a fair share: equal rows mean experts that do not care what "
        "they read.</p>"
    )
    return told + "".join(parts) if parts else "<p>No step was made.</p>"


def _gains(family: Family) -> str:
    gains = family.gains()
    if not gains:
        return "<p>Nobody was taught yet.</p>"
    headings = ["", "soft weight", "KL", "student's loss", "teacher's loss", "student behind by"]
    rows = [
        (
            f"{gain.member}, {gain.modality}",
            [
                (f"{gain.soft_weight:.0%}", ""),
                *((_number(value), "") for value in (gain.kl, gain.loss, gain.teacher_loss)),
                (_number(gain.loss - gain.teacher_loss), ""),
            ],
        )
        for gain in gains
    ]
    return (
        "<p>Over the last tenth of pretraining, in nats per token: how much of the loss was the teacher's, how far "
        "the student was from it, and both losses on the same batches.</p>" + _rows(headings, rows)
    )


def _losses(family: Family) -> str:
    figures = []
    for member, metrics in family.steps().items():
        series = loss_series(metrics)
        steps = {name: at for name, (at, _) in series.items()}
        losses = {name: values for name, (_, values) in series.items()}
        figures.append(figure(f"{member}: loss per modality", loss_curves(steps, losses), is_wide=True))
    return f'<div class="grid">{"".join(figures)}</div>' if figures else "<p>No step was made.</p>"


def _changes(family: Family) -> str:
    told = {name: told_changes(notes) for name, notes in family.notes().items()}
    for record in family.state.stages:
        run = family.run_of(record.name, record.member)
        if record.kind == "long-context" and run is not None and (changes := _length_changes(run)):
            told[record.name] = changes
    order = [record.name for record in family.state.stages if told.get(record.name)]
    parts = [f"<h3>{html.escape(name)}</h3>{table(told[name].items())}" for name in order]
    return "".join(parts) or "<p>Nothing was measured before and after.</p>"


def _length_changes(run: RunDir) -> dict[str, str]:
    """Recall and loss by length, before and after."""
    paths = [run.evals_dir / f"{moment}.json" for moment in ("before", "after")]
    if not all(path.is_file() for path in paths):
        return {}
    before, after = map(LongContextReport.load, paths)
    told = {
        f"{new.kind}, {new.mean_tokens:,.0f} tokens": f"{old.accuracy:.0%} → {new.accuracy:.0%}"
        for old, new in zip(before.scores, after.scores, strict=True)
    }
    return told | {
        f"nats per token, {new.start:,} – {new.end:,}": f"{old.nats_per_token:.3f} → {new.nats_per_token:.3f}"
        for old, new in zip(before.losses, after.losses, strict=True)
    }


def _costs(family: Family, beside: Path) -> str:
    rows = []
    for cost in family.costs():
        name = f"{cost.stage} of {cost.member}" if cost.stage == PRETRAINING else cost.stage
        cells = [
            f"{cost.num_steps:,}",
            short_number(cost.num_tokens),
            f"{cost.flops:.3g}",
            spoken_seconds(cost.seconds),
            _link(family.run_of(cost.stage, cost.member), beside),
        ]
        rows.append((name, [(cell, "") for cell in cells]))
    whole = [
        (record.name, [(record.status, ""), (spoken_seconds(record.seconds), "")])
        for record in family.state.stages
        if record.status != "waiting"
    ]
    return (
        "<p>FLOPs are those of forward and backward with every weight trained: answers that were sampled, targets "
        "that were drawn and evaluations come on top.</p>"
        + _rows(["", "steps", "tokens", "FLOPs", "time of steps", ""], rows)
        + "<h3>Stages, with all that happens in them</h3>"
        + _rows(["", "", "time"], whole)
    )


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"


def _rows(headings: Sequence[str], rows: Iterable[tuple[str, Sequence[tuple[str, str]]]]) -> str:
    """A table; cells are HTML, each with a class or none."""
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
    body = "".join(
        f"<tr><th>{html.escape(name)}</th>"
        + "".join(f'<td class="{kind}">{cell}</td>' for cell, kind in cells)
        + "</tr>"
        for name, cells in rows
    )
    return f'<div class="scroll"><table class="rows"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
