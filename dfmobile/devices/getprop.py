"""Android's system properties, from the output of ``getprop``: text in, names and values out.

Knows no transport and no profile. The text comes from a device and is untrusted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dfmobile.errors import DeviceError

# A line that begins a property. The name has no blanks and no brackets; what follows may go over several lines.
_START = re.compile(r"^\[([^\[\]\s]+)\]: \[", re.M)

# Who owns the phone is nobody's business: numbers of the unit, the line, the card, and addresses never get out of here.
_IDENTIFIER = re.compile(
    r"(?:^|[._-])(?:serial(?:no|num|number)|serial$|\w*(?:imei|imsi|iccid)\w*|meid|esn|msisdn|line1number|sn|sno|psn"
    r"|mac|wifimac|btmac|\w*mac_?addr\w*|\w*bd_?addr\w*|hostname|b?ssid|dns\d*|gateway|ip_?addr(?:ess)?)(?=$|[._-])",
    re.I,
)


@dataclass(frozen=True)
class GetpropLimits:
    """Bounds on what a device may say; a real phone has about 1,000 properties in 60 kB.

    Attributes:
        text_characters: of the whole output.
        properties: number of them.
        name_characters: of one name.
        value_characters: of one value; Android allows 91, and more for those that are read-only.
    """

    text_characters: int = 2**20
    properties: int = 20_000
    name_characters: int = 256
    value_characters: int = 4096


def parse_getprop(text: str, limits: GetpropLimits = GetpropLimits()) -> dict[str, str]:
    """Read the output of ``getprop``: lines ``[name]: [value]``, where a value may have line breaks in it.

    Left out, because nothing sure can be said of them: a value cut off before its bracket, a name or value longer
    than the limits, and a name that comes twice with different values (one of the two stands inside some value).
    Left out too: serial numbers, telephone and card numbers, hardware addresses.

    Args:
        text: the output; lines may end in ``CR LF``, as old devices write them.
        limits: bounds.

    Returns:
        Name to value, in the order of the output; empty where the text holds no property.

    Raises:
        DeviceError: if the text is larger than the limits.
    """
    if len(text) > limits.text_characters:
        raise DeviceError(f"the device's properties are longer than {limits.text_characters} characters")
    text = text.replace("\r\n", "\n")
    starts = list(_START.finditer(text))
    if len(starts) > limits.properties:
        raise DeviceError(f"the device has more than {limits.properties} properties")
    found: dict[str, str] = {}
    doubtful: set[str] = set()
    for index, start in enumerate(starts):
        end = starts[index + 1].start() if index + 1 < len(starts) else len(text)
        name, value = start[1], text[start.end() : end].rstrip("\n")
        if not value.endswith("]") or len(name) > limits.name_characters or _IDENTIFIER.search(name):
            continue
        value = value[:-1]
        if len(value) > limits.value_characters or found.get(name, value) != value:
            doubtful.add(name)
        found[name] = value
    return {name: value for name, value in found.items() if name not in doubtful}
