"""Recordings of the demo, made from files that others recorded: one module a provider.

A module declares `PROVIDER` (the folder), `PROVENANCE` (Markdown: source, licence, date, what was changed)
and `recordings(shared)`, which reads the folder of recorded files and yields what the twin is to answer.
Run it with `python -m sources.twin.convert`.
"""

from __future__ import annotations

_MIT = """\
> MIT License. Copyright (c) {holder}
>
> Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
> associated documentation files (the "Software"), to deal in the Software without restriction, including
> without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
> copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the
> following conditions: The above copyright notice and this permission notice shall be included in all
> copies or substantial portions of the Software. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF
> ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS
> FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE
> LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
> ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def mit_notice(holder: str) -> str:
    """The notice that goes with copies of MIT-licensed recordings; `holder` as in the source: `2023 Name`."""
    return _MIT.format(holder=holder)
