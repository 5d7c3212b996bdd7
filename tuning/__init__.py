"""The commands that users of `tuned_models/` have typed since before mstore; see `model_manager`."""
