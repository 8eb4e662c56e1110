"""One record and its bytes: forms, frames, the walk over good ones, places in the streams of producers."""
