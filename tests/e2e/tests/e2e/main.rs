//! End to end: real clusters with real containers, used as people use them, through kubectl and helm.
