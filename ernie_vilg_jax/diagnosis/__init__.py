"""The checks of `doctor`: does a machine with accelerators do what this project needs, and how fast?"""
