"""The processes of a job: started, watched, ended, asked how they are."""
