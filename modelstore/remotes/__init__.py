"""Places elsewhere that hold values under names: directories, object stores, web servers."""
