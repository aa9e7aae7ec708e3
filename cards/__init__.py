"""Cards: what people read."""
