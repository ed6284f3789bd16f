"""A trained model as a versioned SavedModel for TF Serving."""
