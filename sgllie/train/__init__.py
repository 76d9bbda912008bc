"""Training the network without reference images: photographs in, weights out; plain torch, without Ray."""
