"""The network: plain torch modules, composed by constructor arguments."""
