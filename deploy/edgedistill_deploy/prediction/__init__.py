"""What an expert says about pictures.

Doors: `expert` opens a bundle and answers. `answers` says what an answer is. `pictures` turns what a caller has into
pictures. `usual_model` says which of a bundle's models answers by default. `finding` finds the images that a user
names. `sorting` puts images into folders by their class. `camera` reads one. `occlusion` finds which parts of a picture
speak for the answer, and `heat` draws that.
"""
