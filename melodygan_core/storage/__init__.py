"""Where every artifact lies, and atomic writes below one root."""
