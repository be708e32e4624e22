"""Separation with the built-in model, which audio-separator runs like any other; nothing is downloaded."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import requests
import soundfile
import torch

from melodygan_core.audio import Wav, read_wav, write_wav
from melodygan_core.config import SeparationConfig
from melodygan_core.demo.songs import Song, render
from melodygan_core.errors import InputError
from melodygan_core.parallel import Report
from melodygan_core.separation import audio_separator, centre, parameters, separate
from melodygan_core.storage import Store

pytestmark = pytest.mark.slow

RATE = 44_100
PEAKS = (0.1, 0.5, 1.0)


def si_sdr_db(estimate: Wav, reference: Wav) -> float:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al. 2019), in dB."""
    e, r = estimate.ravel().astype(np.float64), reference.ravel().astype(np.float64)
    target = (e @ r) / (r @ r) * r
    return float(10 * np.log10((target @ target) / ((e - target) @ (e - target))))


def put_raw(store: Store, track_id: str, wav: Wav, sample_rate: int = RATE) -> None:
    path = Path(store.raw_wav(track_id).path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, wav, sample_rate, "FLOAT")


def stems(store: Store, config: SeparationConfig, track_id: str) -> tuple[Wav, Wav]:
    folder = Path(store.stems(config.model_id, track_id).path)
    (vocals, rate), (instrumental, _) = (read_wav(folder / f"{n}.wav") for n in ("vocals", "instrumental"))
    assert rate == RATE
    return vocals, instrumental


class Case(SimpleNamespace):
    store: Store
    config: SeparationConfig
    songs: dict[str, Song]
    report: Report


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Case:
    """The report of one call with every kind of track."""
    store = Store(str(tmp_path_factory.mktemp("separation") / "store"))
    config = SeparationConfig(model="centre", model_dir=str(model_dir))
    songs = {f"hard-{index}": render(index, duration_s=8) for index in (1, 5, 6)}
    songs |= {f"wide-{index}": render(index, duration_s=8, width=0.4) for index in (1, 5, 6)}
    songs |= {f"bass-{index}": render(index, duration_s=8, centred_bass=True) for index in (1, 5, 6)}
    for name, song in songs.items():
        put_raw(store, name, song.mix)
    mix = songs["hard-1"].mix[:, : 3 * RATE]
    for peak in PEAKS:
        put_raw(store, f"peak-{peak}", mix * np.float32(peak / np.abs(mix).max()))
    put_raw(store, "silent", np.zeros((2, RATE), np.float32))
    put_raw(store, "short", mix[:, :1000])
    put_raw(store, "mono", render(2, duration_s=2, sample_rate=22_050).mix[:1], 22_050)
    others = [f"peak-{peak}" for peak in PEAKS] + ["missing", "silent", "short", "mono"]
    return Case(store=store, config=config, songs=songs, report=separate([*songs, *others], store, config))


def outcome(report: Report, track_id: str):
    return next(o for o in report.outcomes if o.track_id == track_id)


def test_a_missing_raw_wav_is_named_and_the_rest_continue(case: Case) -> None:
    assert [o.track_id for o in case.report.failed] == ["missing"]
    assert case.report.failed[0].error == "missing has no raw wav in the store: download it first"


def test_stems_add_up_to_the_mix(case: Case) -> None:
    for name, song in case.songs.items():
        vocals, instrumental = stems(case.store, case.config, name)
        assert vocals.shape == instrumental.shape == song.mix.shape
        residual = np.abs(song.mix - (vocals + instrumental)).max()
        assert 20 * np.log10(residual / np.abs(song.mix).max() + 1e-12) < -80
        assert outcome(case.report, name).metadata["residual_db"] < -80


def test_the_vocal_gain_does_not_depend_on_the_level(case: Case) -> None:
    loud, _ = stems(case.store, case.config, "peak-1.0")
    for peak in PEAKS:
        vocals, _ = stems(case.store, case.config, f"peak-{peak}")
        np.testing.assert_allclose(vocals / np.float32(peak), loud, atol=1e-5)


@pytest.mark.parametrize(("kind", "least_db"), [("hard", 6.0), ("wide", 2.0), ("bass", 3.0)])
def test_the_vocals_improve_on_the_mix(case: Case, kind: str, least_db: float) -> None:
    gains = []
    for name, song in case.songs.items():
        if name.startswith(kind):
            vocals, _ = stems(case.store, case.config, name)
            gains.append(si_sdr_db(vocals, song.vocals) - si_sdr_db(song.mix, song.vocals))
    print(f"{kind}: SI-SDR gain {np.mean(gains):.1f} dB, lowest {min(gains):.1f} dB")
    assert min(gains) >= least_db


def test_silence_stays_silent(case: Case) -> None:
    for stem in stems(case.store, case.config, "silent"):
        assert stem.shape == (2, RATE)
        assert not stem.any()
    assert outcome(case.report, "silent").metadata["vocals_lufs"] == -120.0


def test_short_and_mono_tracks_become_stereo_at_44_khz(case: Case) -> None:
    assert stems(case.store, case.config, "short")[0].shape == (2, 1000)
    vocals, instrumental = stems(case.store, case.config, "mono")
    assert vocals.shape == (2, 2 * RATE)
    # A mono mix is entirely in the centre, above the lowest frequency of the voice.
    assert np.square(vocals).mean() > 2 * np.square(instrumental).mean()


def test_metadata_and_json_record_the_separation(case: Case) -> None:
    metadata = outcome(case.report, "hard-1").metadata
    folder = Path(case.store.stems(case.config.model_id, "hard-1").path)
    assert sorted(f.name for f in folder.iterdir()) == ["instrumental.wav", "stems.json", "vocals.wav"]
    assert metadata["uri"] == f"stems/{case.config.model_id}/hard-1"
    assert metadata["duration_s"] == 8.0
    assert metadata["baseline"] is True
    assert metadata["bytes"] == sum((folder / f"{n}.wav").stat().st_size for n in ("vocals", "instrumental"))
    made = json.loads((folder / "stems.json").read_text())
    assert made["model"] == "centre"
    assert len(made["model_sha256"]) == len(made["stems"]["vocals"]["sha256"]) == 64
    assert soundfile.info(folder / "vocals.wav").subtype == "FLOAT"


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(audio_separator.Separator, "_load", fail)


@pytest.mark.usefixtures("no_model")
def test_a_second_run_computes_nothing(case: Case) -> None:
    again = separate([o.track_id for o in case.report.good], case.store, case.config)
    assert all(o.skipped for o in again.outcomes)
    assert [o.metadata for o in again.outcomes] == [o.metadata for o in case.report.good]


def test_a_new_raw_wav_is_separated_again_and_a_deleted_one_is_not(case: Case, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    put_raw(store, "one", render(3, duration_s=1).mix)
    store.write_json(store.raw_json("one"), {"sha256": "first"})
    first = separate(["one"], store, case.config).outcomes[0]
    store.raw_wav("one").unlink()
    assert separate(["one"], store, case.config).outcomes[0].skipped
    put_raw(store, "one", render(4, duration_s=1).mix)
    store.write_json(store.raw_json("one"), {"sha256": "second"})
    second = separate(["one"], store, case.config).outcomes[0]
    assert not second.error
    assert not second.skipped
    assert second.metadata["vocals_lufs"] != first.metadata["vocals_lufs"]
    # The scratch folder of the track is removed.
    assert not [path for model in store.work("separation").iterdir() for path in model.iterdir()]


@pytest.fixture
def mdx_dir(tmp_path: Path) -> Iterator[Path]:
    """A model folder of a user; `net.onnx` computes the instrumental."""
    content = centre.files()
    tables = {name: json.loads(data) for name, data in content.items() if name.endswith(".json")}
    lists = tables["download_checks.json"]["mdx_download_list"]
    lists |= {name: f"{name}.onnx" for name in ("net", "drums", "broken")}
    (parameters,) = tables["mdx_model_data.json"].values()
    for name, stem in (("net", "Instrumental"), ("drums", "Drums")):
        # A field that parsers skip changes the MD5.
        data = content["centre.onnx"] + bytes((0xFA, 0x3F, len(name))) + name.encode()
        (tmp_path / f"{name}.onnx").write_bytes(data)
        own = {**parameters, "primary_stem": stem, "compensate": 1.02}
        tables["mdx_model_data.json"][hashlib.md5(data).hexdigest()] = own
    (tmp_path / "broken.onnx").write_bytes(b"half a download")
    for name, table in tables.items():
        (tmp_path / name).write_text(json.dumps(table))
    yield tmp_path


@pytest.fixture
def one(tmp_path: Path) -> tuple[Store, Wav]:
    store, mix = Store(str(tmp_path / "store")), render(1, duration_s=3).mix
    put_raw(store, "one", mix)
    put_raw(store, "two", mix)
    return store, mix


def test_a_model_with_an_instrumental_stem(one: tuple[Store, Wav], mdx_dir: Path, case: Case) -> None:
    store, mix = one
    config = SeparationConfig(model="net.onnx", model_dir=str(mdx_dir), parameters=(("overlap", 0.1),))
    report = separate(["one"], store, config)
    assert not report.failed, report.failed
    assert report.outcomes[0].metadata["baseline"] is False
    vocals, instrumental = stems(store, config, "one")
    np.testing.assert_allclose(vocals + instrumental, mix, atol=1e-6)
    # The same graph, so that its stem is the centre, scaled by `compensate`.
    put_raw(case.store, "one", mix)
    separate(["one"], case.store, case.config)
    reference, _ = stems(case.store, case.config, "one")
    assert si_sdr_db(instrumental, reference) > 30
    assert np.abs(instrumental).max() > 0.5 * np.abs(reference).max()


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("drums.onnx", "model must have a vocals or instrumental stem, got drums.onnx with drums, no drums"),
        ("broken.onnx", "is damaged or unknown to mdx_model_data.json"),
        ("other.onnx", "model must be centre or one of `audio-separator --list_models`, got 'other.onnx'"),
    ],
)
def test_an_unusable_model_gives_the_reason(
    one: tuple[Store, Wav], mdx_dir: Path, model: str, sentence: str
) -> None:
    report = separate(["one", "two"], one[0], SeparationConfig(model=model, model_dir=str(mdx_dir)))
    assert [sentence in o.error for o in report.outcomes] == [True, True]


@pytest.fixture
def mdxc_dir(tmp_path: Path) -> Path:
    """A network of another architecture with random weights: four stems, and a checkpoint that does not fit."""
    import torch
    import yaml
    from audio_separator.separator.uvr_lib_v5.tfc_tdf_v3 import TFC_TDF_net
    from ml_collections import ConfigDict

    sizes = {"dim_f": 1024, "dim_t": 128, "hop_length": 512, "n_fft": 2048, "num_channels": 2}
    blocks = {"num_scales": 2, "num_subbands": 4, "scale": [2, 2], "num_blocks_per_scale": 1, "num_channels": 8}
    config = {
        "audio": {**sizes, "chunk_size": 130_560, "sample_rate": RATE},
        "model": {**blocks, "act": "gelu", "bottleneck_factor": 4, "growth": 8, "norm": "InstanceNorm"},
        "training": {"instruments": ["drums", "bass", "other", "vocals"], "target_instrument": None},
        "inference": {"batch_size": 1, "dim_t": 128, "num_overlap": 2},
    }
    lists = json.loads(centre.files()["download_checks.json"])
    torch.manual_seed(0)
    weights = TFC_TDF_net(ConfigDict(config), device="cpu").state_dict()
    for name, state in (("four", weights), ("other", {})):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config))
        torch.save(state, tmp_path / f"{name}.ckpt")
        lists["mdx23c_download_list"][name] = {f"{name}.ckpt": f"{name}.yaml"}
    (tmp_path / "download_checks.json").write_text(json.dumps(lists))
    return tmp_path


def test_another_architecture(one: tuple[Store, Wav], mdxc_dir: Path) -> None:
    store, mix = one
    quiet = mix * np.float32(0.1)
    put_raw(store, "two", quiet)
    config = SeparationConfig(model="four.ckpt", model_dir=str(mdxc_dir))
    assert not separate(["one", "two"], store, config).failed
    vocals, instrumental = stems(store, config, "one")
    assert np.abs(vocals).max() > 0.01
    np.testing.assert_allclose(vocals + instrumental, mix, atol=1e-6)
    np.testing.assert_allclose(stems(store, config, "two")[0] * 10, vocals, atol=1e-5)


def test_a_damaged_checkpoint_does_not_end_the_process(one: tuple[Store, Wav], mdxc_dir: Path) -> None:
    report = separate(["one"], one[0], SeparationConfig(model="other.ckpt", model_dir=str(mdxc_dir)))
    assert "other.ckpt" in report.outcomes[0].error
    assert "damaged or incomplete, delete it" in report.outcomes[0].error


def test_a_missing_model_without_network_says_what_to_do(
    one: tuple[Store, Wav], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def offline(url: str, **_: object) -> None:
        calls.append(url)
        raise requests.ConnectionError("no network")

    monkeypatch.setattr(requests, "get", offline)
    models = tmp_path / "empty"
    report = separate(["one", "two"], one[0], SeparationConfig(model_dir=str(models)))
    assert [o.error for o in report.outcomes] == [
        "the separation model UVR-MDX-NET-Inst_HQ_3.onnx cannot be downloaded (ConnectionError): "
        "choose the built-in model 'centre', or put the missing files (UVR-MDX-NET-Inst_HQ_3.onnx, "
        f"download_checks.json, mdx_model_data.json, vr_model_data.json) into {models}, "
        "or connect to the network"
    ] * 2
    assert len(calls) == 1
    assert list(models.iterdir()) == []


def test_wrong_settings_are_named(one: tuple[Store, Wav], model_dir: Path) -> None:
    store, _ = one
    with pytest.raises(InputError, match=r"(?=.*device)(?=.*'tpu')(?=.*auto, cpu, cuda or mps)"):
        separate(["one"], store, SeparationConfig(model="centre", device="tpu"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"(?=.*'speed')(?=.*aggression, batch_size)"):
        separate(["one"], store, SeparationConfig(model="centre", parameters=(("speed", 1),)))
    with pytest.raises(InputError, match="without folder"):
        separate(["one"], store, SeparationConfig(model="../centre"))
    config = SeparationConfig(model="centre", model_dir=str(model_dir), parameters=(("shifts", 1),))
    error = separate(["one"], store, config).outcomes[0].error
    assert "'shifts'" in error
    assert "one of centre (MDX): batch_size, enable_denoise, hop_length, overlap, segment_size" in error


def test_a_missing_device_is_an_error(one: tuple[Store, Wav], model_dir: Path) -> None:
    import torch

    if torch.backends.mps.is_available():
        pytest.skip("this machine has mps")
    config = SeparationConfig(model="centre", model_dir=str(model_dir), device="mps")
    report = separate(["one"], one[0], config)
    assert "device must be auto or cpu on this machine, got 'mps'" in report.outcomes[0].error
    assert report.outcomes[0].permanent


@pytest.mark.parametrize(
    ("architecture", "primary", "secondary", "instruments", "expected"),
    [
        ("MDX", "Vocals", "Instrumental", [], ("vocals", "vocals")),
        ("MDX", "Instrumental", "Vocals", [], ("instrumental", "instrumental")),
        ("VR", "Instrumental", "Vocals", [], ("instrumental", "instrumental")),
        ("Demucs", "Vocals", "Instrumental", [], ("vocals", "vocals")),
        ("MDXC", "vocals", "other", ["vocals", "other"], ("vocals", "vocals")),
        ("MDXC", "other", "vocals", ["other", "vocals"], ("vocals", "vocals")),
        ("MDXC", "drums", "bass", ["drums", "bass", "other", "vocals"], ("vocals", "vocals")),
    ],
)
def test_the_stem_is_found_by_name(
    architecture: str, primary: str, secondary: str, instruments: list[str], expected: tuple[str, str]
) -> None:
    instance = SimpleNamespace(
        primary_stem_name=primary,
        secondary_stem_name=secondary,
        model_data={"training": {"instruments": instruments}},
    )
    assert audio_separator._own_stem(instance, architecture, "model") == expected


def test_known_parameters_are_those_of_the_installed_audio_separator() -> None:
    from audio_separator.separator import Separator

    signature = inspect.signature(Separator).parameters
    for architecture, types in parameters.PARAMETERS.items():
        assert set(types) == set(signature[f"{architecture.lower()}_params"].default)


def test_the_built_in_model_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    assert centre.files() == centre.files()
    folder = centre.write_model(tmp_path)
    assert folder == centre.write_model(tmp_path)
    assert sorted(f.name for f in folder.iterdir()) == sorted(centre.files())
    assert [f.name for f in tmp_path.iterdir()] == [folder.name]


def test_stacked_arrays_become_the_same_tensors() -> None:
    segment = np.random.default_rng(0).standard_normal((2, 50)).astype(np.float32)
    quick = audio_separator._Torch()
    for data in ([segment], [segment, -segment], segment, [1.0, 2.0], 3):
        assert torch.equal(quick.tensor(data), torch.tensor(data)) and quick.float32 is torch.float32
        assert quick.tensor(data, dtype=torch.float64).dtype == torch.float64
