//! node-agent.
