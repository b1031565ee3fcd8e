"""How a report looks: on a phone, on a large screen, by day and by night, and on paper."""

CSS = """
:root { color-scheme: light dark; --paper: #fff; --ink: #22211e; --faint: #6a665f; --line: #dcd8d0; --tint: #f6f4ef; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #191815; --ink: #ebe8e1; --faint: #a5a097; --line: #3b3832; --tint: #24221e; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem 1.25rem 3rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
p { margin: .5rem 0; max-width: 46rem; }
.figures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, var(--least)), 1fr)); }
figure { margin: 0; }
figure img { display: block; width: 100%; height: auto; }
.wide figure img { width: auto; max-width: 100%; }
figcaption { color: var(--faint); font-size: .875rem; line-height: 1.35; margin-top: .3rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { caption-side: top; text-align: left; color: var(--faint); padding-bottom: .3rem; }
th, td { padding: .25rem .8rem .25rem 0; text-align: right; vertical-align: top; white-space: nowrap; }
th { border-bottom: 1px solid var(--line); font-weight: 600; }
td { border-bottom: 1px solid var(--tint); }
th:first-child, td:first-child { text-align: left; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .15rem 1rem; margin: 0;
  font-size: .9rem; }
dt { color: var(--faint); overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--tint); border: 1px solid var(--line); border-radius: 4px; padding: .6rem .8rem;
  font-size: .85rem; white-space: pre-wrap; overflow-wrap: anywhere; }
svg.curves { display: block; width: 100%; max-width: 46rem; height: auto; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; list-style: none; margin: .3rem 0; padding: 0;
  font-size: .875rem; }
.legend svg { width: 24px; height: 10px; margin-right: .35rem; }
@media (max-width: 600px) {
  body { padding: .5rem .9rem 2rem; }
  h1 { font-size: 1.3rem; }
  svg.curves text { font-size: 20px; }
  dl { grid-template-columns: minmax(5rem, 38%) 1fr; gap: .3rem .8rem; font-size: .85rem; }
}
@media print {
  :root { color-scheme: light; --paper: #fff; --ink: #000; --faint: #444; --line: #bbb; --tint: #fff; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-after: avoid; }
  figure, tr, svg.curves, pre, li { break-inside: avoid; }
  figure img { max-width: 100%; max-height: 22cm; width: auto; }
  .scroll { overflow: visible; }
}
"""
