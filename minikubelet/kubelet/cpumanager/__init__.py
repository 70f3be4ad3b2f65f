"""The static CPU manager: containers of Guaranteed pods that ask for whole CPUs have them for themselves."""
