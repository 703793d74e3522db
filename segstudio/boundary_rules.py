"""The boundary rules of a taxonomy, written out for the people who draw."""

from __future__ import annotations

import html

from segstudio.colors import format_color
from segstudio.taxonomy import SegmentClass, Taxonomy


def boundary_rules_text(taxonomy: Taxonomy) -> str:
    """Write the boundary rules as plain text, one class a line; classes without a rule say so."""
    lines = [f"{taxonomy.name}: what belongs to each class"]
    for one in taxonomy.classes:
        rule = one.boundary_rule or "no rule written yet."
        lines.append(f"- {one.name} ({_kind_words(one)}): {rule}")
    return "\n".join(lines) + "\n"


def boundary_rules_html(taxonomy: Taxonomy) -> str:
    """Write the boundary rules as HTML for a project's labelling instructions.

    A table, one row a class. Everything from the taxonomy is escaped. Colours are `bgcolor`
    attributes of their cells: Label Studio's server strips `style` from instructions.
    """
    rows = []
    for one in taxonomy.classes:
        rule = html.escape(one.boundary_rule or "no rule written yet.")
        rows.append(
            f'<tr><td bgcolor="{format_color(one.color)}">&nbsp;&nbsp;&nbsp;</td>'
            f"<td><b>{html.escape(one.name)}</b> <i>({html.escape(_kind_words(one))})</i></td>"
            f"<td>{rule}</td></tr>"
        )
    table = "\n".join(rows)
    return f"<h3>{html.escape(taxonomy.name)}</h3>\n<table>\n{table}\n</table>\n"


def _kind_words(one: SegmentClass) -> str:
    if one.ignore:
        return "not scored"
    return "each object by itself" if one.is_thing else "one area"
