"""Write every generated file."""

from deployments.reference import ROOT, pages

for name, text in pages().items():
    (ROOT / name).write_text(text)
