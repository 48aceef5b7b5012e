"""A local page that scores photos, and shows what the walk does to them."""
