"""What users bring: tables, images, archives, folders, vocabularies, flags and requests, in every odd form.

    Input      one odd form, seeded -> the files, the command that reads them, and what has to come of it
    outcome    correct, if the output agrees with a reference that does not use our readers; or one sentence

To add a form, add an `Input` to the module of its family; to add a family, add a module to `run.INPUTS`.
"""
