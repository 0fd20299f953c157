"""Render formulas as MathML, which browsers draw without scripts or a network."""

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer; ``html_math_renderer = "mathml"`` selects it."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(_mathml(node, "inline"))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f"<div>{_mathml(node, 'block')}</div>")
    raise nodes.SkipNode


def _mathml(node: nodes.Element, display: str) -> str:
    # The library knows the environment only under the name that it has outside of math.
    text = node.astext().replace("{aligned}", "{align*}")
    return convert(text, display=display)
