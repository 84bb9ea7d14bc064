"""Operations of ours for OpenVINO, in C++ for the matrix unit (AMX) of newer x86 CPUs.

Here is only what no library does well: attention of a value model's few tokens, and group norm of pictures as
convolutions leave them. ``library`` compiles them, ``operations`` puts them in the place of torch's.
"""
