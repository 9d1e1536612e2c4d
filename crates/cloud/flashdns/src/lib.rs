//! flashdns.
