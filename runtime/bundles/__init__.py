"""Reading bundles: the manifest, the checked graphs, the mapped weights."""
