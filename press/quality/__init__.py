"""What a model is worth: the quality ladder, answers, benchmark tasks."""
