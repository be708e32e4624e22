"""Form fields from the JSON schema of a request, so that bounds, defaults and descriptions exist once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from melodygan_core.config import ConfigModel
from melodygan_web.jobs.kinds import MAX_PIECES

# Labels that are shorter for a person than the field's name is.
LABELS = {
    "count": "How many",
    "duration_s": "Length (s)",
    "truncation": "Truncation",
    "loudness_lufs": "Loudness (LUFS)",
    "tempo_bpm": "Tempo (bpm)",
    "beats": "Beats per bar",
    "start_s": "From (s)",
    "end_s": "To (s)",
    "steps": "Solver steps",
}


def field_label(name: str) -> str:
    """The label of a field of a request."""
    return LABELS.get(name, name.replace("_", " ").capitalize())


def plain_value(value: object) -> str:
    """A value as a person writes it: `10` and not `10.0`."""
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class FormField:
    """An input of a form.

    Attributes:
        name: Field of the request.
        label: For people.
        kind: `integer`, `number`, `text`, `boolean` or `choice`.
        value: What it begins with; None for empty.
        description: One or two sentences.
        minimum: Smallest value; None for none.
        maximum: Largest value; None for none.
        choices: Values of a `choice`.
        empty_label: What the empty value of a `choice` means.
    """

    name: str
    label: str
    kind: str
    value: Any
    description: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    empty_label: str = "Default"


def form_fields(
    request: type[ConfigModel],
    names: Sequence[str],
    values: Mapping[str, Any],
    choices: Mapping[str, Sequence[str]] | None = None,
    empty_labels: Mapping[str, str] | None = None,
) -> list[FormField]:
    """Fields of a request as inputs.

    Args:
        request: Class of the request.
        names: Its fields, in the order of the form; those that it does not have are left out.
        values: What the fields begin with, before the defaults of the request.
        choices: Values that are allowed for a text.
        empty_labels: What the empty value of such a text means.
    """
    properties = request.model_json_schema()["properties"]
    found = [_field(name, properties[name], values, choices or {}) for name in names if name in properties]
    return [replace(field, empty_label=(empty_labels or {}).get(field.name, "Default")) for field in found]


def _field(
    name: str, schema: dict[str, Any], values: Mapping[str, Any], choices: Mapping[str, Sequence[str]]
) -> FormField:
    allowed = tuple(choices.get(name, schema.get("enum", ())))
    kind = "choice" if allowed else {"string": "text"}.get(schema.get("type", ""), schema.get("type", "text"))
    return FormField(
        name=name,
        label=field_label(name),
        kind=kind,
        value=values.get(name, schema.get("default")),
        description=schema.get("description", "").replace("`", ""),
        minimum=schema.get("minimum", schema.get("exclusiveMinimum")),
        maximum=MAX_PIECES if name == "count" else schema.get("maximum", schema.get("exclusiveMaximum")),
        choices=allowed,
    )
