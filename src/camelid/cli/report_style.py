"""How the report looks."""

from __future__ import annotations

__all__ = ["STYLE_SHEET"]

STYLE_SHEET = """
:root { color-scheme: light dark; --ink: #23262f; --soft: #6b7080; --line: #e3e5ec; --page: #f7f7fa; --card: #ffffff;
  --right: #1f8a5f; --wrong: #c8384f; --accent: #5b3fd6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ef; --soft: #9aa0b2; --line: #2d313d; --page: #14161c;
  --card: #1c1f27; --right: #4cc38f; --wrong: #f0677d; --accent: #a794ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 2rem 1.25rem 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1.25rem; letter-spacing: -0.02em; }
h2 { font-size: 1.3rem; margin: 3rem 0 1rem; letter-spacing: -0.01em; }
h3 { font-size: 1rem; margin: 1.75rem 0 0.5rem; }
p { margin: 0.25rem 0 0.75rem; color: var(--soft); }
code { color: var(--accent); font-size: 0.95em; background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; padding: 0.15em 0.45em; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 0.6rem; margin: 0 0 1rem; }
.numbers div, figure, article { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.numbers div { padding: 0.6rem 0.8rem; }
dt { color: var(--soft); font-size: 0.78rem; } dd { margin: 0; font-size: 1.2rem; font-weight: 600;
  font-variant-numeric: tabular-nums; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(245px, 100%), 1fr)); gap: 0.8rem; }
figure { margin: 0; padding: 0.7rem 0.8rem 0.5rem; min-width: 0; } figure.wide { grid-column: 1 / -1; }
figcaption { font-size: 0.85rem; font-weight: 600; margin-bottom: 0.3rem; }
svg { display: block; width: 100%; height: auto; } svg text { font-family: inherit !important; }
.wide svg { max-width: 760px; margin: 0 auto; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(160px, 46%), 1fr)); gap: 0.8rem; }
article { overflow: hidden; border-top: 3px solid var(--right); padding-bottom: 0.6rem; }
article.wrong { border-top-color: var(--wrong); } article p { margin: 0.2rem 0.8rem 0; font-size: 0.9rem; }
.pictures { display: flex; gap: 2px; background: #ffffff; justify-content: center; padding: 0.5rem; }
.pictures:empty { display: none; }
.pictures img { width: 100%; max-width: 128px; min-width: 0; object-fit: contain; aspect-ratio: 1; }
.answer { color: var(--ink); font-weight: 600; } .answer span { color: var(--right); }
.wrong .answer span { color: var(--wrong); } .truth { font-size: 0.85rem; }
article .kind { font-size: 0.72rem; letter-spacing: 0.04em; text-transform: uppercase; }
.scroll { overflow-x: auto; margin-bottom: 1rem; } table { border-collapse: collapse; font-size: 0.85rem; }
th, td { text-align: left; padding: 0.2rem 1.2rem 0.2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 400; color: var(--soft); white-space: nowrap; } td { font-variant-numeric: tabular-nums; }
"""
