"""noise -> latents -> log-mel -> wav, from a trained family."""

from melodygan_core.generation.models import Composed, Models
from melodygan_core.generation.pieces import Piece, generate, name_of, pieces, sources, write_pieces

__all__ = ["Composed", "Models", "Piece", "generate", "name_of", "pieces", "sources", "write_pieces"]
