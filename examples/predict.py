"""What an expert says about a picture."""

from edgedistill_deploy import Expert

with Expert("my-expert") as expert:
    answer = expert.predict("photo.jpg")
print(f"{answer.class_name}: {answer.probability:.1%} in {answer.milliseconds:.1f} ms")
