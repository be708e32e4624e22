"""What a release with a flow can do besides: continue, inpaint, loop and variations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from melodygan_core.cli import options
from melodygan_core.cli.with_release import open_release, prepare, release_argument, run

if TYPE_CHECKING:
    from melodygan_core.cli.with_release import Service


def _shared(config: str, out: str) -> Callable[[Any], Any]:
    """The options of all of these commands, in the order of their help.

    Args:
        config: Name of the request's class.
        out: Name of the folder that is written to.
    """

    def decorate(command: Any) -> Any:
        for option in (
            options.output(out),
            options.device,
            options.vocoder,
            options.sampling,
            options.field(config, "condition"),
            options.field(config, "seed"),
            options.field(config, "count"),
        ):
            command = option(command)
        return command

    return decorate


def _edit(
    release: str,
    capability: str,
    request: Any,
    load: Callable[[], Service],
    default: str,
    vocoder: str | None,
    device: str,
    out: Path | None,
    overwrite: bool,
) -> None:
    """Calls a service, after the checks that need no model."""
    from melodygan_core.services.releases import check_capability, check_condition

    folder = prepare(release, out, overwrite, default)
    check_capability(release, capability)
    if request.condition:
        check_condition(release, request.condition)
    run(folder, load(), open_release(release, vocoder, device), request, overwrite)


@click.command("continue")
@release_argument
@click.argument("sound", type=options.SOUND)
@options.field("ContinueConfig", "duration_s", "--seconds")
@_shared("ContinueConfig", "continued")
def continue_sound(
    release: str,
    sound: Path,
    vocoder: str | None,
    device: str,
    out: Path | None,
    overwrite: bool,
    **settings: Any,
) -> None:
    """Goes on from the end of a sound.

    Writes SOUND with --seconds of new music behind it. What was there stays as it is, but for a cross-fade of
    30 ms at its end. Needs a release whose prior is a flow.
    """
    from melodygan_core.config import ContinueConfig, from_dict

    def load() -> Any:
        from melodygan_core.services.continuation import continue_sound as service

        return service

    config = from_dict(ContinueConfig, {"sound": str(sound), **settings})
    _edit(release, "continue", config, load, "continued", vocoder, device, out, overwrite)


@click.command()
@release_argument
@click.argument("sound", type=options.SOUND)
@options.field("InpaintConfig", "start_s", "--from", required=True)
@options.field("InpaintConfig", "end_s", "--to", required=True)
@_shared("InpaintConfig", "inpainted")
def inpaint(
    release: str,
    sound: Path,
    vocoder: str | None,
    device: str,
    out: Path | None,
    overwrite: bool,
    **settings: Any,
) -> None:
    """Makes a part of a sound anew.

    The part of SOUND from second --from to second --to becomes new music that goes with what is before and
    after it. The rest stays as it is, but for cross-fades of 30 ms beside the part. Needs a release whose prior
    is a flow.
    """
    from melodygan_core.config import InpaintConfig, from_dict

    def load() -> Any:
        from melodygan_core.services.continuation import inpaint as service

        return service

    config = from_dict(InpaintConfig, {"sound": str(sound), **settings})
    _edit(release, "inpaint", config, load, "inpainted", vocoder, device, out, overwrite)


@click.command()
@release_argument
@options.field("LoopConfig", "duration_s", "--seconds")
@options.field("LoopConfig", "bars")
@options.field("LoopConfig", "tempo_bpm", "--tempo")
@options.field("LoopConfig", "beats")
@_shared("LoopConfig", "loops")
def loop(
    release: str, vocoder: str | None, device: str, out: Path | None, overwrite: bool, **settings: Any
) -> None:
    """Makes loops: new sounds whose end goes over into their beginning.

    Give --seconds, or --bars with --tempo. The duration is exact; that the music keeps the tempo is not said.
    Needs a release whose prior is a flow.
    """
    from melodygan_core.config import LoopConfig, from_dict

    def load() -> Any:
        from melodygan_core.services.loop import loop as service

        return service

    config = from_dict(LoopConfig, settings)
    _edit(release, "loop", config, load, "loops", vocoder, device, out, overwrite)


@click.command()
@release_argument
@click.argument("sound", type=options.SOUND)
@options.field("VariationsConfig", "strength")
@_shared("VariationsConfig", "variations")
def variations(
    release: str,
    sound: Path,
    vocoder: str | None,
    device: str,
    out: Path | None,
    overwrite: bool,
    **settings: Any,
) -> None:
    """Makes variations of a sound.

    Mixes the latents of SOUND with noise and makes music of that. Prints how much of melody and rhythm is left.
    Needs a release whose prior is a flow.
    """
    from melodygan_core.config import VariationsConfig, from_dict

    def load() -> Any:
        from melodygan_core.services.variations import variations as service

        return service

    config = from_dict(VariationsConfig, {"sound": str(sound), **settings})
    _edit(release, "vary", config, load, "variations", vocoder, device, out, overwrite)


COMMANDS = (continue_sound, inpaint, loop, variations)
