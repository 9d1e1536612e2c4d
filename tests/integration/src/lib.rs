//! Tests of the whole server without a node, through its public faces. All of them are under `tests/`.
