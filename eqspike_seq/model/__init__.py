"""The network: shapes, parameters, φ, HopAttn and its projection layer."""
