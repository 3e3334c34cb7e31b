"""Labels from any list of words: how well each word's embedding fits the images in which a unit is active.

label_config        what is computed, as data
word_list           the words
embedding_model     what embeds images and words: transformers, a factory, a trained two-tower network
embedding_files     embeddings that were computed elsewhere
embed               embeddings of a data set's images and of words, cached
similarity          the functions of CLIP-Dissect
word_statistics     the word of each unit, and what is known of it
label_units         `netdissect.label`
"""
