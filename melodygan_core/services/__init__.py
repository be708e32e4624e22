"""What a trained family is used for: on any sound of one's own, or to multiply a labelled set of them."""

from melodygan_core.services.augment import Augmented, augment
from melodygan_core.services.content_similarity import content_similarity
from melodygan_core.services.files import (
    generate_files,
    interpolate_files,
    reconstruct_file,
    transfer_file,
)
from melodygan_core.services.interpolate import interpolate
from melodygan_core.services.reconstruct import reconstruct
from melodygan_core.services.sound import load_sound
from melodygan_core.services.transfer import Transferred, transfer

__all__ = [
    "Augmented",
    "Transferred",
    "augment",
    "content_similarity",
    "generate_files",
    "interpolate",
    "interpolate_files",
    "load_sound",
    "reconstruct",
    "reconstruct_file",
    "transfer",
    "transfer_file",
]
