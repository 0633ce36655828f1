"""TensorRT: what its tools say and take by version, and what drives them."""
