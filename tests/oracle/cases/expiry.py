"""expiry.json: when a link ends, from `now`, `expires_in` or `exp`, and `align_to`. The ends are worked out by hand."""

from keyring import NOW

# NOW is 08:00:00 UTC, a multiple of 3600.
_MIDNIGHT = 1_799_971_200  # 2027-01-15 00:00:00 UTC, a multiple of 86400

_CASES: list[tuple[str, dict[str, int], int]] = [
    ("default", {"now": NOW}, 1_800_003_600),
    ("default-at-zero", {"now": 0}, 3600),
    ("one-second", {"now": NOW, "expires_in": 1}, 1_800_000_001),
    ("a-week", {"now": NOW, "expires_in": 604_800}, 1_800_604_800),
    ("aligned-to-1", {"now": NOW + 7, "expires_in": 10, "align_to": 1}, 1_800_000_017),
    ("aligned-on-the-boundary", {"now": NOW, "expires_in": 3600, "align_to": 300}, 1_800_003_600),
    ("aligned-just-after-the-boundary", {"now": NOW + 1, "expires_in": 3600, "align_to": 300}, 1_800_003_900),
    ("aligned-just-before-the-boundary", {"now": NOW - 1, "expires_in": 3600, "align_to": 300}, 1_800_003_600),
    ("aligned-default", {"now": NOW + 299, "align_to": 300}, 1_800_003_900),
    ("aligned-default-next-span", {"now": NOW + 301, "align_to": 300}, 1_800_004_200),
    ("aligned-to-an-hour", {"now": NOW + 1, "expires_in": 60, "align_to": 3600}, 1_800_003_600),
    ("aligned-to-a-day", {"now": NOW, "expires_in": 3600, "align_to": 86_400}, 1_800_057_600),
    ("aligned-to-a-day-at-midnight", {"now": _MIDNIGHT, "expires_in": 86_400, "align_to": 86_400}, 1_800_057_600),
    ("aligned-to-a-day-later", {"now": _MIDNIGHT + 1, "expires_in": 86_400, "align_to": 86_400}, 1_800_144_000),
    ("aligned-to-seven", {"now": NOW, "expires_in": 3600, "align_to": 7}, 1_800_003_604),
    ("exp", {"now": NOW, "exp": 1_800_000_123}, 1_800_000_123),
    ("exp-largest", {"now": NOW, "exp": 999_999_999_999}, 999_999_999_999),
    ("exp-zero", {"now": NOW, "exp": 0}, 0),
    ("exp-aligned", {"now": NOW, "exp": 1_800_000_123, "align_to": 300}, 1_800_000_300),
    ("exp-aligned-on-the-boundary", {"now": NOW, "exp": 1_800_000_300, "align_to": 300}, 1_800_000_300),
    ("exp-aligned-to-a-span-beyond-it", {"now": NOW, "exp": 5, "align_to": 999_999_999_999}, 999_999_999_999),
    ("expires-in-to-the-last-moment", {"now": NOW, "expires_in": 998_199_999_999}, 999_999_999_999),
]


def vectors() -> list[dict[str, object]]:
    return [{"name": name, **given, "expect": expected} for name, given, expected in _CASES]
