"""What happens to a user whose files are damaged: seeded damages, real commands, and a verdict on each.

    world      prepared and annotated data, a run of all three phases, an export; the same of another seed
    case N     a fresh copy of the world -> one damage -> one command -> compared with the command on undamaged files

More kinds of damage are one more module of `Damage`s, more commands one more `Use` in uses.py; cases.py says what goes
with what.
"""
