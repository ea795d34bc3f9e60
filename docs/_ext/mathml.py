"""Formulas as MathML, by docutils: no script and no network when a page is read."""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx
from sphinx.util.math import get_node_equation_number


def _mathml(tex: str, block: bool) -> str:
    tex = re.sub(r"\\[td]?frac(\d)(\d)", r"\\frac{\1}{\2}", tex)
    # As fences the bars stand close to what they enclose.
    tex = tex.replace(r"\lvert", "|").replace(r"\rvert", "|")
    tex = re.sub(r"\\\|(.+?)\\\|", r"\\left\\Vert \1\\right\\Vert ", tex)
    tex = re.sub(r"(?<!left)(?<!right)\|([^|]+)\|", r"\\left|\1\\right|", tex)
    return _spaced(latex2mathml.tex2mathml(tex, as_block=block))


# TeX's space between the name of a function and what has no bracket around it.
_THIN = '<mspace width="0.1667em"></mspace>'
_BARE = r"(?!\s*(?:<mrow>\s*)?<mo[^>]*>[(\[|])(?=\s*<m)"
_FACTOR = r"(</m(?:i|n|frac|row|su[bp]|subsup)>\s*)"


def _spaced(math: str) -> str:
    """Let functions stand as close to what is around them as TeX puts them."""
    near = '<mo lspace="0" rspace="0">'
    math = re.sub(r"<mo>(?=(?:min|max)</mo>)", near, math)
    math = re.sub(rf"({near}\w+</mo>){_BARE}", rf"\1{_THIN}", math)
    math = re.sub(rf"{_FACTOR}({near}\w+</mo>)(?=\s*<m)", rf"\1{_THIN}\2", math)
    return re.sub(rf"(<mo>&ApplyFunction;</mo>){_BARE}", rf"\1{_THIN}", math)


def visit_inline(self: Any, node: Any) -> None:
    """Write a formula in a line of text."""
    self.body.append(_mathml(node.astext(), block=False))
    raise nodes.SkipNode


def visit_block(self: Any, node: Any) -> None:
    """Write a displayed formula, with its number if it has one."""
    self.body.append(self.starttag(node, "div", CLASS="math"))
    if node["number"]:
        number = get_node_equation_number(self, node)
        self.body.append(f'<span class="eqno">({number})</span>')
    self.body.append(_mathml(node.astext(), block=True))
    self.body.append("</div>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
