"""Short programs that use jnst inside other training and evaluation code; tests run all of them."""
