"""Pixels in and out: decoding, fitting to the network, arrays of answers, pictures of them."""
