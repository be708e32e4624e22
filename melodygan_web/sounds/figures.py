"""What a service measured of a sound, in words for people: the figure stays beside each."""

from __future__ import annotations

from collections.abc import Mapping

# Lower bounds of a correlation and the share that it stands for. Unrelated music has a chroma correlation of
# about -0.1, the same music through the worst vocoder 0.9 (services.content_similarity).
_SHARES = ((0.8, "nearly all"), (0.6, "most"), (0.35, "some"), (-1.0, "hardly any"))
_SIMILARITIES = {"chroma_correlation": "Melody", "onset_correlation": "Rhythm"}


def in_words(figures: Mapping[str, float]) -> list[str]:
    """A phrase for each figure that people can hear, such as `Melody kept: 0.84 (nearly all)`.

    Args:
        figures: As services write them; unknown ones are left out.
    """
    found = [
        f"{what} kept: {figures[name]:.2f} ({_share(figures[name])})"
        for name, what in _SIMILARITIES.items()
        if name in figures
    ]
    before, after = figures.get("style_distance_before"), figures.get("style_distance_after")
    if before is not None and after is not None and before > 0:
        found.append(_timbre(1 - after / before))
    share = figures.get("share_of_second")
    if share is not None:
        found.append(f"{1 - share:.0%} of the first sound, {share:.0%} of the second")
    return found


def _share(correlation: float) -> str:
    return next((words for least, words in _SHARES if correlation >= least), _SHARES[-1][1])


def _timbre(way: float) -> str:
    if way < 0.005:
        return "Timbre: no nearer to the style"
    return f"Timbre: {min(way, 1.0):.0%} of the way to the style"
