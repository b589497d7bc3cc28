"""The sources of images: files, folders, tar archives and TFRecord files, local and remote."""
