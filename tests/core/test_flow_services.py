"""What a release with a flow can do: continue, inpaint, loop, vary, transfer and augment, on real files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from melodygan_core import audio, latents, prior
from melodygan_core import codec as codecs
from melodygan_core.config import (
    AugmentConfig,
    ConfigModel,
    ContinueConfig,
    InpaintConfig,
    LoopConfig,
    ReconstructConfig,
    TransferConfig,
    VariationsConfig,
    replace,
)
from melodygan_core.errors import InputError
from melodygan_core.prior.flow import FlowTask
from melodygan_core.progress import ProgressEvent
from melodygan_core.release import Release
from melodygan_core.services.augment import augment
from melodygan_core.services.continuation import continue_sound, inpaint
from melodygan_core.services.editing import FADE_S, context_of, crossfade
from melodygan_core.services.generate import generate
from melodygan_core.services.loop import decode_loop, loop, loop_wav, stretched
from melodygan_core.services.reconstruct import reconstruct
from melodygan_core.services.sound import load_sound
from melodygan_core.services.transfer import transfer
from melodygan_core.services.variations import variations
from tests.core.made import FEATURE, GENERATION, TEMPORAL_FLOW, Trained
from tests.core.made_temporal import RATE, put, tone

pytestmark = pytest.mark.slow

FADE = round(FADE_S * RATE)


@pytest.fixture
def melody(tmp_path: Path) -> Path:
    """A melody of 4 s."""
    return put(tmp_path / "song.wav", tone(4.0, (220.0, 277.2, 329.6, 440.0, 329.6, 246.9)))


def heard(folder: Path, name: str) -> NDArray[np.float32]:
    """The left channel of the sound that was written."""
    return audio.read_wav(folder / name)[0][0]


def as_read(path: Path) -> NDArray[np.float32]:
    """A sound as services read it, at the rate of the models, with the resolution of what they write."""
    return heard(path.parent, put(path.with_name("as-read.wav"), load_sound(path, FEATURE)).name)


def level_db(wav: NDArray[np.float32]) -> float:
    return 10 * float(np.log10(np.square(wav, dtype=np.float64).mean() + 1e-12))


def test_a_continued_sound_keeps_its_samples_and_its_level(flow: Release, melody: Path, tmp_path: Path) -> None:
    events: list[ProgressEvent] = []
    config = ContinueConfig(sound=str(melody), duration_s=2.5, count=2, seed=3)
    result = continue_sound(flow, config, tmp_path / "out", progress=events.append)
    original, made = as_read(melody), heard(tmp_path / "out", "song-continued-00.wav")
    assert [s.file for s in result.sounds] == ["song-continued-00.wav", "song-continued-01.wav"]
    assert len(made) == len(original) + round(2.5 * RATE)
    assert np.array_equal(made[: len(original) - FADE], original[:-FADE])
    assert not np.array_equal(made, heard(tmp_path / "out", "song-continued-01.wav"))
    assert np.abs(made[len(original) :]).max() > 1e-3
    # No step at the seam: not larger than the largest within either side.
    steps = np.abs(np.diff(made))
    seam = steps[len(original) - FADE - 1 : len(original) + 1].max()
    assert seam <= 1.5 * max(steps[: len(original) - FADE].max(), steps[len(original) + 1 :].max())
    facts = json.loads((tmp_path / "out" / "song-continued-00.json").read_text("utf-8"))
    assert facts["service"] == "continue" and facts["settings"]["seed"] == 3
    assert facts["pipeline"] == "temporal_flow" and facts["inputs"][0]["file"] == "song.wav"
    done = [e.done for e in events]
    assert events[0].done == 0 and done == sorted(done) and events[-1].done == events[-1].total
    assert {e.stage for e in events} == {"continue"}
    again = continue_sound(flow, replace(config, count=1), tmp_path / "again")
    assert np.array_equal(heard(tmp_path / "again", again.sounds[0].file), made)


@pytest.mark.parametrize(("start_s", "end_s"), [(1.5, 2.25), (0.0, 0.7), (3.2, 4.0), (0.5, 3.7)])
def test_an_inpainted_sound_is_new_in_the_part_and_nowhere_else(
    flow: Release, melody: Path, tmp_path: Path, start_s: float, end_s: float
) -> None:
    config = InpaintConfig(sound=str(melody), start_s=start_s, end_s=end_s)
    inpaint(flow, config, tmp_path / "out")
    original, made = as_read(melody), heard(tmp_path / "out", "song-inpainted-00.wav")
    start, stop = round(start_s * RATE), round(end_s * RATE)
    assert len(made) == len(original)
    assert np.array_equal(made[: max(0, start - FADE)], original[: max(0, start - FADE)])
    assert np.array_equal(made[stop + FADE :], original[stop + FADE :])
    changed = np.abs(made[start:stop] - original[start:stop])
    assert (changed > 1e-4).mean() > 0.9
    assert np.isfinite(made).all()


def test_what_lies_in_the_part_is_not_looked_at(flow: Release) -> None:
    wav = np.stack([tone(4.0, (220.0, 330.0))] * 2)
    damaged = wav.copy()
    damaged[:, 30_000:40_000] = np.random.default_rng(0).uniform(-1, 1, 10_000)
    one, other = (context_of(flow.pipeline, w, 30_000, 40_000, 20) for w in (wav, damaged))
    assert torch.equal(one.latents, other.latents)
    hop, size = FEATURE.hop_length, flow.pipeline.codec.token_frames
    before = int(one.known.tolist().index(False))
    gap = int((~one.known).sum())
    assert one.anchor == (before * size - 1) * hop
    # What is behind the part begins less than two tokens after it.
    resumed = 30_000 + (gap * size + 1) * hop
    assert 40_000 <= resumed < 40_000 + 2 * size * hop


def test_a_crossfade_keeps_the_power_of_what_is_alike_and_of_what_is_not() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.normal(0, 0.1, (2, 20_000)).astype(np.float32) for _ in range(2))
    assert np.allclose(crossfade(first, first), first, atol=1e-6)
    assert level_db(crossfade(first, second)) == pytest.approx(-20, abs=0.2)
    assert crossfade(first, second)[:, 0] == pytest.approx(first[:, 0], abs=1e-3)


@pytest.mark.parametrize("settings", [{"duration_s": 2.345}, {"bars": 1, "tempo_bpm": 133.0}])
def test_a_loop_has_its_duration_and_no_click(flow: Release, tmp_path: Path, settings: dict[str, Any]) -> None:
    config = LoopConfig(**settings)
    result = loop(flow, config, tmp_path / "out")
    made = heard(tmp_path / "out", result.sounds[0].file)
    assert len(made) == round(config.length_s * RATE)
    twice = np.concatenate([made, made])
    # The step over the border, in value and in slope, is one of those inside.
    for order in (1, 2):
        steps = np.abs(np.diff(twice, order))
        border = steps[len(made) - 4 : len(made) + 4].max()
        inside = np.delete(steps[: len(made) - 4], slice(0, 4))
        assert border <= np.quantile(inside, 0.9995) + 1e-3


def test_a_loop_has_no_first_frame(flow: Release) -> None:
    pipeline = flow.pipeline
    made = torch.randn(20, pipeline.codec.latent_dim, generator=torch.Generator().manual_seed(0)).tanh()
    straight, rotated = decode_loop(pipeline, made), decode_loop(pipeline, made.roll(7, 0))
    size, frames = pipeline.codec.token_frames, 20 * pipeline.codec.token_frames
    assert straight.spectrum.shape == (1, frames, FEATURE.n_bands)
    same, slower = stretched(straight, frames), stretched(straight, 2 * frames)
    for a, b, c, d in zip(straight, rotated, same, slower, strict=True):
        assert a is not None and b is not None and c is not None and d is not None
        assert torch.allclose(b, a.roll(7 * size, 1), atol=1e-5)
        assert torch.allclose(c, a)
        assert torch.allclose(d[:, ::2], a, atol=1e-5)
        assert torch.allclose(d[:, -1], (a[:, -1] + a[:, 0]) / 2, atol=1e-5)


def test_loops_of_a_seed_are_the_same_for_every_count(flow: Release) -> None:
    config = LoopConfig(duration_s=1.0, count=3)
    assert np.array_equal(
        loop_wav(flow.pipeline, config, 1), loop_wav(flow.pipeline, replace(config, count=1), 1)
    )


def test_variations_are_further_away_the_stronger_they_are(flow: Release, melody: Path, tmp_path: Path) -> None:
    distances = []
    original = as_read(melody)
    for strength in (0.0, 0.5, 1.0):
        config = VariationsConfig(sound=str(melody), strength=strength, count=2)
        result = variations(flow, config, tmp_path / f"out{strength}")
        assert [s.file for s in result.sounds] == ["song-variation-00.wav", "song-variation-01.wav"]
        made = [heard(tmp_path / f"out{strength}", s.file) for s in result.sounds]
        assert len(made[0]) == len(original)
        assert np.array_equal(made[0], made[1]) == (strength == 0)
        distances.append(result.sounds[0].figures["onset_correlation"])
    assert distances[0] > distances[2]


def test_transfer_takes_the_flow_where_the_prior_knows_the_tag_or_it_is_asked_for(
    flow: Release, temporal: Release, melody: Path, tmp_path: Path
) -> None:
    other = put(tmp_path / "other.wav", tone(6.5, (110.0, 164.8, 130.8, 196.0), bright=0.8))

    def made(release: Release, name: str, **settings: Any) -> dict[str, Any]:
        config = TransferConfig(content=str(melody), **settings)
        (sound,) = transfer(release, config, tmp_path / name).sounds
        expected = {"style_distance_before", "style_distance_after", "style_spread", "chroma_correlation"}
        assert expected <= sound.figures.keys()
        return json.loads((tmp_path / name / sound.file.replace(".wav", ".json")).read_text("utf-8"))

    tag = made(flow, "auto", style_tag="slow")
    assert tag["method"] == "flow" and (tag["style_weight"], tag["keep_melody"]) == (1, 1)
    # The prior was not trained with these as a condition.
    for name, style in (("all", {"style_tag": "all"}), ("sound", {"style": str(other)})):
        assert made(flow, f"auto-{name}", **style)["method"] == "eq"
        assert made(flow, name, method="flow", **style)["method"] == "flow"
    facts = (tmp_path / "sound" / "song-as-other.json").read_text("utf-8")
    sound = json.loads(facts)
    assert sound["method"] == "flow" and [i["file"] for i in sound["inputs"]] == ["song.wav", "other.wav"]
    assert "style_weight" not in made(flow, "eq", style_tag="slow", method="eq")
    assert made(temporal, "gan", style_tag="slow")["method"] == "eq"
    one, other_wav = (heard(tmp_path / name, "song-as-slow.wav") for name in ("auto", "eq"))
    assert len(one) == len(other_wav) and not np.allclose(one, other_wav, atol=1e-3)
    # No noise: what codec and vocoder keep of the content, at its level.
    made(flow, "none", style=str(other), method="flow", strength=0.0)
    expected = reconstruct(flow, ReconstructConfig(sound=str(melody)), tmp_path / "codec").sounds[0]
    written = heard(tmp_path / "none", "song-as-other.wav"), heard(tmp_path / "codec", expected.file)
    assert np.array_equal(*written)
    with pytest.raises(InputError, match="release must be of a pipeline that can vary, such as temporal_flow"):
        made(temporal, "wrong", style_tag="slow", method="flow")
    with pytest.raises(InputError, match="steps must be 0 with the method eq"):
        made(flow, "wrong", style_tag="slow", method="eq", steps=4)
    with pytest.raises(InputError, match=r"guidance must be 1 unless .* \(fast, minor, slow\), got 2"):
        made(flow, "wrong", style=str(other), method="flow", guidance=2.0)


def test_augment_takes_the_flow_where_there_is_one(flow: Release, melody: Path, tmp_path: Path) -> None:
    put(tmp_path / "set" / "x" / "a.wav", tone(1.2, (220.0, 330.0)))
    made = {}
    for method, expected in (("auto", "flow"), ("eq", "eq")):
        out = tmp_path / method
        config = AugmentConfig(copies=1, method=method)
        result = augment(flow, tmp_path / "set", out, config)
        assert len(result.rows) == 1 and not result.failed
        assert json.loads((out / ".melodygan" / "settings.json").read_text("utf-8"))["method"] == expected
        assert f"| method | {expected} |" in (out / "README.md").read_text("utf-8")
        made[method] = heard(out / "data" / "x", "a.01.wav")
        assert augment(flow, tmp_path / "set", out, config).made == 0
    assert len(made["auto"]) == len(made["eq"]) and not np.allclose(made["auto"], made["eq"], atol=1e-3)
    with pytest.raises(InputError, match="made with the same settings"):
        augment(flow, tmp_path / "set", tmp_path / "eq", AugmentConfig(copies=1))
    # A folder of a version before the method existed.
    file = tmp_path / "eq" / ".melodygan" / "settings.json"
    settings = json.loads(file.read_text("utf-8"))
    del settings["method"]
    file.write_text(json.dumps(settings), "utf-8")
    assert augment(flow, tmp_path / "set", tmp_path / "eq", AugmentConfig(copies=1, method="eq")).made == 0


SERVICES: dict[str, tuple[Callable[..., Any], type[ConfigModel], dict[str, Any]]] = {
    "continue": (continue_sound, ContinueConfig, {}),
    "inpaint": (inpaint, InpaintConfig, {"start_s": 1.0, "end_s": 2.0}),
    "loop": (loop, LoopConfig, {"duration_s": 1.0}),
    "vary": (variations, VariationsConfig, {}),
}


@pytest.mark.parametrize("capability", SERVICES)
def test_a_release_without_a_flow_names_one_that_can(
    flow: Release, temporal: Release, melody: Path, tmp_path: Path, capability: str
) -> None:
    service, request, settings = SERVICES[capability]
    if "sound" in request.model_fields:
        settings = {**settings, "sound": str(melody)}
    with pytest.raises(InputError, match=f"pipeline that can {capability}, such as temporal_flow"):
        service(temporal, request(**settings), tmp_path / "out")
    with pytest.raises(InputError, match="condition must be fast, minor, slow, got 'loud'"):
        service(flow, request(**settings, condition="loud"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_parts_are_refused(flow: Release, melody: Path, tmp_path: Path) -> None:
    wrong = {
        "end_s must be above `start_s` = 2, got 2": {"start_s": 2.0, "end_s": 2.0},
        r"end_s must be at most 4\.00, the length of the sound, got 4\.5": {"start_s": 2.0, "end_s": 4.5},
        "the sound beside the part must be .* or more": {"start_s": 0.0, "end_s": 4.0},
    }
    for message, settings in wrong.items():
        with pytest.raises(InputError, match=message):
            inpaint(flow, InpaintConfig(sound=str(melody), **settings), tmp_path / "out")
    for duration_s, bars in ((0.0, 0), (2.0, 1)):
        with pytest.raises(InputError, match="exactly one of `duration_s` and `bars` must be above 0"):
            LoopConfig(duration_s=duration_s, bars=bars)
    with pytest.raises(InputError, match=r"duration_s must be 0\.5 to 120"):
        LoopConfig(bars=100, tempo_bpm=20.0)


def test_generate_passes_its_settings_to_the_flow_and_a_gan_refuses_them(
    flow: Release, temporal: Release, tmp_path: Path
) -> None:
    config = replace(GENERATION, count=1, duration_s=1.0, condition="slow")
    made = []
    for k, settings in enumerate(({}, {"steps": 2}, {"guidance": 2.0}, {"autoguidance": 2.0})):
        (sound,) = generate(flow, replace(config, **settings), tmp_path / str(k)).sounds
        made.append(heard(tmp_path / str(k), sound.file))
    assert all(not np.array_equal(made[0], other) for other in made[1:])
    plain = replace(GENERATION, count=1, autoguidance=2.0)
    with pytest.raises(InputError, match=r"autoguidance must be 1 with this release: .* temporal_plan, got 2"):
        generate(temporal, plain, tmp_path / "gan")


# Training.


def test_the_training_reports_what_it_selects_by(temporal_trained: Trained) -> None:
    store = temporal_trained.store
    table = latents.load(temporal_trained.latents, store)
    codec = codecs.load(Path(str(store.at(temporal_trained.codec.uri))))
    config = replace(TEMPORAL_FLOW, condition="tag", condition_dropout=0.5, level_db=3.0, level_share=0.5)
    torch.manual_seed(0)
    task = FlowTask(table, codec, config, torch.device("cpu"))
    batch = task.get_batch(4)
    assert all(torch.equal(v, task.get_batch(4)[k]) for k, v in batch.items()), "a function of the step"
    assert task.conditions == ("fast", "minor", "slow")
    many = torch.cat([task.get_batch(k)["condition"] for k in range(40)])
    assert float((many == 3).float().mean()) == pytest.approx(0.5, abs=0.1)
    assert float(
        (torch.cat([task.get_batch(k)["gain"] for k in range(40)]) == 0).float().mean()
    ) == pytest.approx(0.5, abs=0.1)
    # A level moves only the examples that have one, and a small one a little.
    gain = torch.zeros(len(batch["latents"]))
    assert torch.equal(task._at_levels(batch["latents"], gain), batch["latents"])
    gain[2] = 0.05
    moved = task._at_levels(batch["latents"], gain) - batch["latents"]
    assert float(moved[2].abs().max()) > 0
    assert not torch.cat([moved[:2], moved[3:]]).any()
    found = task.validate(0)
    assert {"train_loss", "memorisation_ratio", "diversity", "kad_groups"} < found.figures.keys()
    figures = {"loss": math.e, "kad": 30.0}
    expected = {"both": 1.03, "loss": 1.0, "kad": 0.03}
    for select, score in expected.items():
        task.config = replace(config, select=select)
        assert task._score(figures) == pytest.approx(score)
    assert task._score({"loss": math.e}) == pytest.approx(1.0), "no KAD of too few tracks"


def test_weights_that_copy_are_no_candidates(
    temporal_trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = temporal_trained.store
    table = latents.load(temporal_trained.latents, store)
    codec = codecs.load(Path(str(store.at(temporal_trained.codec.uri))))
    task = FlowTask(table, codec, TEMPORAL_FLOW, torch.device("cpu"))
    copies = task._decoded.log_mel(task._sequences["train"].evenly_spaced(48))
    with monkeypatch.context() as patch:
        patch.setattr(task, "decoded", lambda model: copies)
        found = task.validate(0)
    assert found.figures["memorisation_ratio"] < 0.01 and found.loss is None
    unseen = task._decoded.log_mel(task._sequences["validation"].evenly_spaced(48))
    with monkeypatch.context() as patch:
        patch.setattr(task, "decoded", lambda model: unseen)
        found = task.validate(0)
    assert found.figures["memorisation_ratio"] == pytest.approx(1.0) and found.loss is not None


def test_a_trained_flow_is_loaded_as_it_was_and_is_healthy(flow: Release, temporal_trained: Trained) -> None:
    made = flow.pipeline.prior
    assert made.conditions == ("fast", "minor", "slow")
    assert made.border_tokens == TEMPORAL_FLOW.window_tokens // 2
    store = temporal_trained.store
    checkpoint = prior.train("flow", temporal_trained.latents, temporal_trained.codec, store, TEMPORAL_FLOW)
    assert checkpoint.name == "temporal/flow_checkpoint" and checkpoint.metrics["finite"]
    health = prior.check_collapse(checkpoint, temporal_trained.latents, temporal_trained.codec, store)
    assert health.finite and health.diversity > 0
