"""The checks of a GPU. `make gpu` runs them on one; the ordinary tests run them on the CPU, at tiny sizes."""
