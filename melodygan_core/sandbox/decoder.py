"""Sound and video files -> headerless samples, by ffmpeg in a child whose processor time depends on the file.

ffmpeg's time for tags grows with the square of their number, in every container: 3 MB of ID3 frames cost
minutes. An ID3v2 tag in front of the sound is skipped by its size, so that such a track is decoded. Every other
tag (Vorbis comments, RIFF lists, MP4 items, ID3 inside wav or aiff) meets the limit of `cpu_limit_s`.
"""

from __future__ import annotations

from pathlib import Path

from melodygan_core.config import DownloadConfig
from melodygan_core.errors import TrackError, TransientError
from melodygan_core.sandbox import ffmpeg, net
from melodygan_core.text import plain_text

# Audio, and video with audio. Demuxers that open other files (hls, dash, concat, ...) are left out.
DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,eac3,flac,flv,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,ogg,tta,w64,wav,wv"
)
CHANNELS = 2
# Mono is copied to both channels (`-ac 2` attenuates by 3 dB); more channels are mixed without clipping.
_TO_STEREO = "aresample=rematrix_maxval=1.0,aformat=channel_layouts=mono|stereo,pan=stereo|FL<FL+FC|FR<FR+FC"
# Share of the time-out that a decoder may compute. A file that keeps a core busy reaches this limit first: the
# file is at fault. A decoder that waits for a busy machine reaches the time-out first: it is tried again.
_CPU_SHARE = 0.75
# Measured: mp3 of 128 kbit/s takes 0.2 s per MB, opus of 16 kbit/s 2.1 s, silence as flac 4 s; all of them
# 0.003 s per second of sound. The rest is for slower codecs and machines.
_CPU_FLOOR_S, _CPU_PER_MB_S, _CPU_PER_SECOND_S = 10.0, 4.0, 0.02
# A second attempt gets at least this much more time than the first.
_WORTH_ANOTHER = 1.25
# Tags in a row that are skipped. Writers make one; what has more is left to the decoder and its limit.
_MOST_TAGS = 10_000


def cpu_limit_s(size: int, config: DownloadConfig, stated_s: float = 0.0) -> float:
    """Returns the processor time that a file may take: 10 s, 4 s per MB and 0.02 s per stated second.

    Args:
        size: Of the file, in bytes.
        config: Longest duration, which bounds the stated one, and time-out; the limit is at most 75% of it.
        stated_s: Duration that the file states, in seconds; 0 for none.
    """
    sound_s = _CPU_PER_SECOND_S * min(stated_s, config.max_duration_s)
    return min(_CPU_SHARE * config.timeout_s, _CPU_FLOOR_S + _CPU_PER_MB_S * size / 1e6 + sound_s)


def tag_bytes(path: Path) -> int:
    """Returns the bytes of the ID3v2 tags that a file begins with, pictures included; 0 for none.

    A tag that claims to be longer than the file counts as none; the decoder reports it.
    """
    size, end = path.stat().st_size, 0
    with path.open("rb") as file:
        for _ in range(_MOST_TAGS):
            file.seek(end)
            head = file.read(10)
            if len(head) < 10 or head[:3] != b"ID3" or 0xFF in head[3:5] or max(head[6:]) > 0x7F:
                break
            # Four bytes of seven bits each; the flag says that a copy of the header follows the tag.
            length = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
            after = end + 10 + length + (10 if head[5] & 0x10 else 0)
            if after >= size:
                break
            end = after
    return end


def decode(original: Path, scratch: Path, config: DownloadConfig) -> tuple[Path, str]:
    """Decodes an audio or video file by ffmpeg, in a child with limits on memory, time and output size.

    A file that reaches its processor limit gets one more attempt if its header was read and states a duration
    that is worth more time: long silence takes few bytes.

    Args:
        original: An absolute path; a playlist that names other files is refused.
        scratch: A folder that the caller removes.
        config: Sample rate, longest duration (the output may be a second longer), time-out.

    Returns:
        A file of headerless little-endian float32, CHANNELS interleaved at config.sample_rate, and the log of
        ffmpeg.

    Raises:
        TrackError: ffmpeg reads no sound in it, or needs too much processor time for it; see cpu_limit_s.
        TransientError: the time-out passed on a busy machine.
        StorageError: the disk is full.
    """
    # Headerless float32 has no size limit, and keeps samples that are not finite apart from silence.
    raw, size = scratch / "decoded.f32", original.stat().st_size
    cpu_s = cpu_limit_s(size, config)
    status, log = _run(original, raw, config, cpu_s)
    if ffmpeg.reached_cpu_limit(status, log):
        longer_s = cpu_limit_s(size, config, ffmpeg.stated_duration_s(log) or 0.0)
        if longer_s >= _WORTH_ANOTHER * cpu_s:
            raw.unlink(missing_ok=True)
            cpu_s = longer_s
            status, log = _run(original, raw, config, cpu_s)
    if ffmpeg.reached_cpu_limit(status, log):
        allowed = f"{int(cpu_s)} s for {size} bytes"
        raise TrackError(f"decoding it takes more processor time than a decoder gets, which is {allowed}")
    empty = not raw.exists() or (raw.stat().st_size == 0 and ffmpeg.names_other_files(log))
    if status != 0 or empty:
        raise ffmpeg.failure(status, log, raw)
    return raw, log


def _run(original: Path, raw: Path, config: DownloadConfig, cpu_s: float) -> tuple[int, str]:
    """Returns the exit status and the log of ffmpeg."""
    scratch, skipped = raw.parent, tag_bytes(original)
    command = [
        str(ffmpeg.executable()),
        *("-nostdin", "-hide_banner", "-v", "info", "-nostats", "-threads", "1"),
        *(("-skip_initial_bytes", str(skipped)) if skipped else ()),
        *("-protocol_whitelist", "file,pipe", "-format_whitelist", DEMUXERS, "-i", f"file:{original}"),
        *("-map", "0:a:0", "-vn", "-sn", "-dn", "-t", str(config.max_duration_s + 1), "-af", _TO_STEREO),
        *("-ar", str(config.sample_rate), "-f", "f32le", f"file:{raw}"),
    ]
    size = int((config.max_duration_s + 2) * config.sample_rate * CHANNELS * 4)
    limits = net.Limits(config.timeout_s, file_bytes=size, memory_bytes=1 << 30, cpu_s=cpu_s)
    try:
        status, _, log = net.run_child({"task": "convert", "command": command}, limits, scratch)
    except TransientError as error:
        raise TransientError(f"decoding {error}") from error
    log = "\n".join(plain_text(line.replace(str(scratch), "")) for line in log.splitlines())
    return status, log
