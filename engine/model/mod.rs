//! Open and save.
