"""Booleans are not numbers, although Python takes `true` for 1."""

from typing import Any, get_args, get_type_hints


def no_booleans(kind: type, raw: Any) -> Any:
    """`raw` as it is, settings of a dataclass or model `kind`.

    Raises:
        ValueError: a boolean, also in a list, for a field that is not boolean; the sentence names the field.
    """
    if isinstance(raw, dict):
        hints = get_type_hints(kind)
        for key, value in raw.items():
            values = value if isinstance(value, (list, tuple)) else [value]
            hint = hints.get(key, bool)
            if any(isinstance(one, bool) for one in values) and bool not in (hint, *get_args(hint)):
                raise ValueError(f"{key} is {str(value).lower()}; it must not be true or false")
    return raw
