"""What a trained family is used for: on any sound of one's own, or to multiply a labelled set of them."""

from melodygan_core.applications.augment import Augmented, augment
from melodygan_core.applications.files import (
    generate_files,
    interpolate_files,
    reconstruct_file,
    transfer_file,
)
from melodygan_core.applications.interpolate import interpolate
from melodygan_core.applications.likeness import likeness
from melodygan_core.applications.reconstruct import reconstruct
from melodygan_core.applications.sound import load_sound
from melodygan_core.applications.transfer import Transferred, transfer

__all__ = [
    "Augmented",
    "Transferred",
    "augment",
    "generate_files",
    "interpolate",
    "interpolate_files",
    "likeness",
    "load_sound",
    "reconstruct",
    "reconstruct_file",
    "transfer",
    "transfer_file",
]
