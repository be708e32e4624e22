"""`melodygan export`: a release in other forms."""

from __future__ import annotations

from pathlib import Path

import click

from melodygan_core.cli import options
from melodygan_core.cli.terminal import echo
from melodygan_core.cli.with_release import drawn_late, open_release, release_argument, report_licences

OUT = click.Path(path_type=Path)


@click.command()
@release_argument
@click.option("--onnx", type=OUT, help="New or empty folder for ONNX networks.")
@click.option("--web", type=OUT, help="New or empty folder for a page that makes endless music.")
@click.option(
    "--ort-dir",
    type=OUT,
    help="Folder that keeps onnxruntime-web for --web; a cache of the user's when it is not given.",
)
@options.vocoder
def export(
    release: str, onnx: Path | None, web: Path | None, ort_dir: Path | None, vocoder: str | None
) -> None:
    """Exports a release as ONNX networks, or as a radio for the browser.

    `melodygan generate` takes the folder of --onnx as it takes RELEASE. It makes the same pieces of the same
    seeds, and needs no torch. Prints each network's largest difference to torch.

    The folder of --web is a static page for any web server. It fetches onnxruntime-web from npm, once.
    """
    from melodygan_core.services.output import check_new
    from melodygan_core.services.releases import check_release

    if onnx is None and web is None:
        raise click.UsageError("a folder must be given: --onnx, --web or both")
    check_release(release)
    for name, folder in (("onnx", onnx), ("web", web)):
        if folder is not None:
            check_new(folder, name)
    opened = open_release(release, vocoder, "cpu")
    from melodygan_core.services import export as service
    from melodygan_core.settings import npm_registry

    with drawn_late() as progress:
        if onnx is not None:
            manifest = service.export_onnx(opened, onnx, progress)
            for network in manifest.networks:
                megabytes = (onnx / network.file).stat().st_size / 1e6
                echo(f"{onnx / network.file}  {megabytes:.1f} MB  error {network.max_error:.1e}")
        if web is not None:
            service.export_radio(opened, web, npm_registry(), ort_dir, progress)
            echo(f"{web / 'index.html'}  serve the folder, such as by `python -m http.server -d {web}`")
    report_licences(opened.manifest.sources["licences"])
