"""The report in French. It is written with plain spaces; those before double punctuation are set as French has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from greffon.auditing import Kind
from greffon.report.run.words import Plural, Words

__all__ = ["FRENCH", "typeset"]


def typeset(text: str) -> str:
    """A French text with spaces that do not break: before a colon a whole one, before ; ? ! % and inside « » a narrow one."""
    text = re.sub(r"(?<=\S) (?=[;?!%»])", "\u202f", text.replace("« ", "«\u202f"))
    return re.sub(r"(?<=\S) (?=:)", "\u00a0", text)


def _typeset(value: Any) -> Any:
    if isinstance(value, str):
        return typeset(value)
    if isinstance(value, Plural):
        return Plural(typeset(value.one), typeset(value.many))
    if isinstance(value, Kind):
        return Kind(typeset(value.title), typeset(value.advice))
    return {key: _typeset(one) for key, one in value.items()} if isinstance(value, Mapping) else value


_PLAIN = Words(
    point=",",
    thousands="\u202f",
    per_cent="\u202f%",
    quotes=("«\u202f", "\u202f»"),
    none_is_one=True,
    missing="–",
    interval="de {low} à {high}",
    listed=", ",
    title=Plural("{n} classe, apprise sur {backbone}", "{n} classes, apprises sur {backbone}"),
    extraction="Extraction de caractéristiques : tous les étages de {backbone} restent tels quels, et une nouvelle tête ({head}) a été"
    " ajustée sur ce qu’ils donnent.",
    tuning=Plural(
        "Réglage fin : l’étage {stages} de {backbone} a été entraîné avec une nouvelle tête ; ce qui est au-dessous reste tel quel.",
        "Réglage fin : les étages {stages} de {backbone} ont été entraînés avec une nouvelle tête ; ce qui est au-dessous reste tel"
        " quel.",
    ),
    contents="Sommaire",
    no_script="Cette page montre les images à la demande grâce à un petit script, désactivé ici. Tous les chiffres se lisent sans lui.",
    no_picture="pas d’image",
    more="encore {n}",
    values="Les valeurs en tableau",
    colon="\u00a0: ",
    summary="En bref",
    no_test="Il n’y avait pas d’images de test : aucun chiffre ne peut être donné.",
    accuracy=Plural(
        "de {n} image de test est bien nommé ({right}) ; avec 95 % de confiance, l’exactitude est entre {low} et {high}.",
        "des {n} images de test sont bien nommées ({right}) ; avec 95 % de confiance, l’exactitude est entre {low} et {high}.",
    ),
    accuracy_seen=Plural(
        "de {n} image est bien nommé ({right}) ; avec 95 % de confiance, l’exactitude est entre {low} et {high}.",
        "des {n} images sont bien nommées ({right}) ; avec 95 % de confiance, l’exactitude est entre {low} et {high}.",
    ),
    held_out="Ces images n’ont servi ni à l’entraînement ni à aucun choix.",
    perhaps_seen="On ne sait pas ici si le modèle a appris de certaines de ces images : si c’est le cas, les chiffres le flattent.",
    few="Elles sont peu nombreuses : l’intervalle est large.",
    further_figures="Exactitude équilibrée {balanced} ; perte logarithmique {loss} ; erreur de calibration attendue {calibration}.",
    top5="La vraie classe est parmi les cinq plus probables pour {share} des images.",
    trust="Peut-on s’y fier ?",
    baseline="Toujours nommer la classe la plus fréquente serait juste pour {share} de ces images.",
    no_better="L’intervalle descend jusque-là : rien ne montre que le modèle ait appris quelque chose.",
    sure=Plural(
        "Le modèle était sûr à 90 % ou plus de {n} image, et avait raison pour {share} de celles-ci (95 % : {interval}).",
        "Le modèle était sûr à 90 % ou plus de {n} images, et avait raison pour {share} d’entre elles (95 % : {interval}).",
    ),
    calibrated="Dans l’ensemble, il a raison aussi souvent qu’il le dit : confiance moyenne {sure}, exactitude {right}.",
    too_sure="Il est plus sûr de lui qu’il ne devrait : confiance moyenne {sure}, exactitude {right}.",
    too_unsure="Il a plus souvent raison qu’il ne le dit : confiance moyenne {sure}, exactitude {right}.",
    cannot_say="Avec si peu d’images, on ne peut pas dire si ses pourcentages sont crédibles.",
    failing="Où se trompe-t-il ?",
    none_wrong="Aucune image de test n’est mal nommée.",
    weakest=Plural(
        "La classe la plus faible est {name} : sur {n} image, {right} bien nommée ({share} ; 95 % : {interval}).",
        "La classe la plus faible est {name} : sur {n} images, {right} bien nommées ({share} ; 95 % : {interval}).",
    ),
    confused=Plural("L’erreur la plus fréquente : {true} pris pour {predicted}, une fois.",
                    "L’erreur la plus fréquente : {true} pris pour {predicted}, {n} fois."),
    advice="Que peut-on faire ?",
    advice_labels=Plural("Regarder l’étiquette qui est probablement fausse.",
                         "Regarder les {n} étiquettes qui sont probablement fausses, les premières d’abord."),
    advice_leaks=Plural("Retirer de l’entraînement {n} fichier présent aussi dans le test : les chiffres sont flattés.",
                        "Ne garder que d’un seul côté les {n} fichiers présents dans plusieurs lots : les chiffres sont flattés."),
    advice_test="Tester sur plus d’images : avec {n}, on ne peut rien dire de sûr.",
    advice_class=Plural("Ajouter des photos de {name} : il y en avait {n} en tout.",
                        "Ajouter des photos de {name} : il y en avait {n} en tout."),
    advice_more="Prendre plus de photos : le double apporterait {gain} points (de {low} à {high}), si la courbe d’apprentissage"
        " continue ainsi.",
    advice_enough="Plus de photos du même genre n’aideraient guère : le double, {gain} points (de {low} à {high}) selon la courbe"
        " d’apprentissage.",
    advice_unsure="Il n’est pas sûr que plus de photos aideraient : le double, {gain} points (de {low} à {high}) selon la courbe"
        " d’apprentissage.",
    advice_confused="Dire plus clairement ce qui est {true} et ce qui est {predicted}, ou réunir les deux.",
    advice_tune="Essayer le réglage fin : l’option --unfreeze auto de l’entraînement dit s’il en vaut la peine.",
    advice_none="Rien ne saute aux yeux. Essayer le modèle sur de nouvelles photos.",
    matrix="Ce qui est pris pour quoi",
    matrix_caption="Lignes : la vraie classe. Colonnes : ce que le modèle a dit.",
    matrix_hint="Choisissez un nombre pour voir ses images ; les flèches mènent d’un nombre à l’autre.",
    matrix_many="{n} classes sont trop pour un tableau ; voici les erreurs les plus fréquentes.",
    cell=Plural("{true} pris pour {predicted} : {n} image", "{true} pris pour {predicted} : {n} images"),
    cell_right=Plural("{true} bien nommé : {n} image", "{true} bien nommé : {n} images"),
    cell_none="aucune image",
    gallery="Images du nombre choisi",
    gallery_more="En montrer plus",
    gallery_left="{n} de ces images ne sont pas dans ce fichier.",
    pairs="Les erreurs les plus fréquentes",
    true_class="vraie classe",
    predicted_class="dit",
    images="images",
    mistakes="Erreurs",
    mistakes_lead=Plural("{n} image est mal nommée.", "{n} images sont mal nommées."),
    mistakes_first="Les {shown} dont le modèle était le plus sûr :",
    mistakes_all="Les plus sûres d’abord :",
    mistake="{predicted} {probability}, en fait {true}",
    mistake_image="{name} : {true} pris pour {predicted}",
    heat_image="{name} : ce qui parlait pour {predicted}",
    heat_lead="À côté d’une photo : plus un endroit est chaud, plus il parlait pour la mauvaise classe ({method}).",
    heat_methods={
        "cam": "carte d’activation de classe",
        "gradcam": "Grad-CAM",
        "gradcam++": "Grad-CAM++",
        "occlusion": "occlusion",
        "integrated-gradients": "gradients intégrés",
    },
    classes="Classe par classe",
    classes_lead="Rappel : parmi les images d’une classe, la part nommée ainsi. Précision : parmi les images nommées ainsi, la part"
        " qui en est.",
    class_name="classe",
    class_all="en tout",
    class_tested="test",
    precision="précision",
    recall="rappel",
    recall_interval="intervalle à 95 %",
    f1="F1",
    calibration="A-t-il raison aussi souvent qu’il le dit ?",
    calibration_error="Erreur de calibration attendue : {error}.",
    calibration_chance="Avec autant d’images, le hasard seul en donne une de {chance}, même si toutes les confiances sont justes.",
    calibration_before="Elle était de {before} avant la température de {temperature}, ajustée sur des images tenues hors de"
        " l’entraînement, et"
    " non sur celles-ci.",
    calibration_read="Les points sur la ligne ont raison aussi souvent qu’ils le disent ; au-dessous, le modèle est trop sûr de"
        " lui. Les plus"
    " gros points ont plus d’images.",
    confidence="confiance du modèle",
    named_rightly="bien nommées",
    as_sure_as_right="aussi sûr que juste",
    calibration_image="Part des images bien nommées selon la confiance du modèle, avec intervalles à 95 %",
    learning="Comment il a appris",
    losses="Époque par époque",
    losses_image="Perte d’entraînement et perte logarithmique de validation à chaque époque",
    accuracies_image="Exactitude de validation à chaque époque",
    epoch="époque",
    nats="perte (nats)",
    training_loss="perte d’entraînement",
    validation_loss="perte de validation",
    validation_accuracy="exactitude de validation",
    kept_epoch="gardée : époque {n}",
    by_images="Plus de photos aideraient-elles ?",
    by_images_lead="Exactitude en validation croisée de têtes sur le réseau gelé, qui apprennent d’une partie des images"
        " d’entraînement, avec intervalles à 95 %.",
    by_images_image="Exactitude selon le nombre d’images d’entraînement, avec intervalles à 95 %",
    training_images="images d’entraînement",
    accuracy_axis="exactitude",
    chosen_head="Ce que la tête reçoit a été choisi par validation croisée sur les images dont elle a appris :",
    features_column="caractéristiques",
    strength_column="force",
    cross_validation="exactitude en validation croisée",
    log_loss="perte logarithmique",
    search="Ce que la recherche a trouvé",
    search_lead=Plural("{n} essai en {seconds} s, {pruned} abandonné tôt. On a pris celui dont la perte de validation est la plus"
        " faible :"
                       " {loss}, contre {default} par défaut.",
                       "{n} essais en {seconds} s, {pruned} abandonnés tôt. On a pris celui dont la perte de validation est la plus"
                       " faible :"
                       " {loss}, contre {default} par défaut."),
    search_flatters="Il a été choisi par ce chiffre, qui le flatte donc ; les images de test n’y ont eu aucune part.",
    search_mattered="Ce qui comptait : {list} (part de la variance entre essais).",
    search_share="{name} {share}",
    search_image="Perte de validation de chaque essai selon les valeurs qui comptaient le plus",
    map="Les images de test telles que le réseau les voit",
    map_lead="Les images proches se ressemblent pour le réseau ; la couleur est la vraie classe, et un anneau marque une erreur.",
    map_tsne="Disposées par t-SNE : la distance entre les groupes dit peu de chose.",
    map_pca="Les deux axes principaux des caractéristiques, qui gardent {share} des différences.",
    map_some="Sur {n} images, {shown} sont montrées : toutes les erreurs, tant qu’elles tiennent, et d’autres tirées au hasard.",
    map_wrong="pris pour {predicted} ({probability})",
    map_wrong_button="Erreurs seulement",
    data="Les images",
    data_root="données",
    data_images="images",
    data_counts="{n} : {train} pour l’entraînement, {val} pour la validation, {test} pour le test",
    data_near="presque identiques",
    data_near_value=Plural("{n} image, chaque groupe gardé d’un seul côté", "{n} images, chaque groupe gardé d’un seul côté"),
    data_copies="copies exactes",
    data_copies_value=Plural("{n}, utilisée une fois", "{n}, utilisées une fois"),
    data_conflicting="sous deux étiquettes",
    data_conflicting_value=Plural("{n} contenu, laissé de côté", "{n} contenus, laissés de côté"),
    data_unreadable="mises de côté",
    data_unreadable_value=Plural("{n} qui n’a pas pu être lue", "{n} qui n’ont pas pu être lues"),
    more_in_metrics="… et encore {n}.",
    left_out="Le même contenu sous deux étiquettes, laissé de côté :",
    faults="Défauts des données",
    faults_none="Aucun de ceux que l’entraînement cherche : étiquettes probablement fausses, copies dans plusieurs lots, trop peu"
        " d’images,"
    " classes inégales.",
    faults_audit="{command} en cherche d’autres, et écrit une liste pour agir.",
    faults_suspects="Les étiquettes les plus probablement fausses, d’après ce qui est dit de photos tenues à l’écart :",
    suspect="{label} → {suggested} ?",
    suspect_image="{name}, étiquetée {label}, peut-être {suggested}",
    reason_label="{label} a {own}, {suggested} {other}",
    reason_same="le même fichier que {others}",
    reason_nearly="presque identique à {others}",
    reason_few=Plural("{n} photo différente ; les intervalles de ce qu’on en dit sont larges",
                      "{n} photos différentes ; les intervalles de ce qu’on en dit sont larges"),
    reason_imbalance="{most} a {count} photos différentes, {least} en a {few} : {times} fois plus",
    and_more=Plural("et {n} autre", "et {n} autres"),
    kinds={
        "unreadable": Kind("fichiers illisibles", "Les retirer, ou se les procurer à nouveau."),
        "duplicate-across-classes": Kind("même fichier dans plusieurs classes",
                                         "Décider quelle classe est la bonne. L’entraînement les laisse tous de côté."),
        "near-duplicate-across-classes": Kind("presque la même photo dans plusieurs classes",
                                              "Une des étiquettes est fausse : décider laquelle."),
        "duplicate-across-splits": Kind("même fichier dans plusieurs lots", "Ce qui a été appris n’est pas un test. Le garder d’un"
        " seul côté."),
        "near-duplicate-across-splits": Kind("presque la même photo dans plusieurs lots",
                                             "Ce qui a été appris n’est pas un test. La garder d’un seul côté."),
        "label-error": Kind("étiquettes peut-être fausses", "Regarder les premières : est-ce la classe de leur dossier, ou celle qui"
        " est proposée ? Des dernières, la plupart sont justes, et le modèle se trompe."),
        "shortcut": Kind("indices de raccourci",
                         "Un modèle peut apprendre cela, et non ce qu’il faut voir. Prendre toutes les classes de la même façon."),
        "confused-classes": Kind("classes difficiles à distinguer", "Les réunir, ou dire plus clairement ce qui va où."),
        "few-images": Kind("classes avec trop peu de photos", "Ajouter des photos, ou laisser la classe de côté."),
        "imbalance": Kind("classes inégales",
                          "L’entraînement donne le même poids à chaque classe ; plus de photos des petites vaut mieux."),
        "small-images": Kind("petites photos", "Le réseau les voit agrandies. Des originaux plus grands montreraient davantage."),
        "duplicate": Kind("autres copies d’un fichier", "L’entraînement prend chaque contenu une fois : elles ne nuisent ni"
        " n’apportent rien."),
        "near-duplicate": Kind("photos presque identiques",
                               "L’entraînement les garde d’un seul côté. Elles comptent pour moins que d’autres."),
        "outlier": Kind("photos à part de toutes les autres", "Regarder si elles ont leur place ici."),
        "odd-size": Kind("photos de taille ou de forme inhabituelle", "Regarder si ce sont des icônes, des panoramas ou de mauvais"
        " cadrages."),
        "greyscale": Kind("photos en niveaux de gris parmi celles en couleurs",
                          "Regarder si elles ont leur place ici ; leur classe pourrait être apprise ainsi."),
        "colour": Kind("photos en couleurs parmi celles en niveaux de gris",
                       "Regarder si elles ont leur place ici ; leur classe pourrait être apprise ainsi."),
    },
    unreadable_reasons={
        "empty": "le fichier est vide",
        "not an image": "pas une image d’un format connu",
        "damaged": "image endommagée",
        "cannot be read": "le fichier ne peut pas être lu",
        "too large": "plus grande que la limite pour une image",
        "other": "illisible : {reason}",
    },
    network="Le réseau et sa coupe",
    network_frozen="Gelés sous la coupe : {frozen}. Entraînés au-dessus : {trained}, et la nouvelle tête.",
    network_all_frozen="La coupe est au-dessus du dernier étage : {backbone} est entièrement gelé, et seule la nouvelle tête a été"
        " entraînée.",
    network_none_frozen="La coupe est sous le premier étage : {backbone} a été entièrement entraîné avec la nouvelle tête.",
    network_image="Le réseau en blocs, de l’image à la nouvelle tête",
    made="Comment il a été fait",
    command="La commande qui le refait",
    command_lead="Avec les mêmes images, sur le même genre de machine, elle donne le même modèle :",
    command_none="Le modèle a été fait sans la ligne de commande, ou avant que greffon ne garde la commande.",
    settings="La configuration",
    backbone="réseau",
    backbone_value="{name}, poids de {weights}, {licence}",
    fingerprint="empreinte",
    input="entrée",
    input_value="{width} × {height} pixels",
    frozen_part="partie gelée",
    fidelity="cosinus avec float32 {cosine} sur {n} de ces images",
    engines="Sur quoi la partie gelée aurait pu tourner",
    engine="précision",
    engine_rate="images par seconde",
    engine_cosine="cosinus moyen avec float32",
    engine_verdict="ce qui fut décidé",
    head="tête",
    heads={
        "logistic": "régression logistique",
        "svm": "SVM linéaire",
        "ridge": "régression ridge",
        "centroid": "centroïde le plus proche",
        "knn": "plus proches voisins",
    },
    head_strength="force {strength}",
    balanced="poids égal pour chaque classe",
    unbalanced="poids égal pour chaque image",
    temperature="température {temperature}",
    features="caractéristiques",
    features_last="{pool} du dernier étage, {norm}",
    features_every="{pool} de tous les étages, {norm}",
    features_chosen="choisies par validation croisée",
    pools={"mean": "moyenne", "max": "maximum", "mean+max": "moyenne et maximum", "flatten": "toutes les valeurs"},
    norms={"standard": "centrées et réduites", "l2": "de longueur 1", "sqrt-l2": "racines carrées, de longueur 1"},
    trained="entraînement",
    trained_value="{epochs} époques par lots de {batch}, dont l’époque {best} est gardée",
    chosen_by_validation="selon la perte logarithmique de validation",
    chosen_by_nothing="faute d’images de validation",
    stopped_early="arrêté avant la fin",
    optimiser="optimiseur",
    optimiser_value="{name}, taux d’apprentissage {rate}, de la tête {head_rate}, décroissance des poids {decay}",
    mixed="{mix} {alpha}",
    smoothing="lissage des étiquettes {value}",
    views="vues",
    views_value=Plural("{n} de chaque image d’entraînement, variantes {policy} ; activations gardées en {keep}",
                       "{n} de chaque image d’entraînement, variantes {policy} ; activations gardées en {keep}"),
    strategy="stratégie",
    strategy_kept="--unfreeze auto a gardé l’extraction de caractéristiques",
    strategy_tuned="--unfreeze auto a gardé le réglage fin",
    notes="Notes du programme (en anglais)",
    seed="graine",
    seconds="durée",
    seconds_value="{seconds} s",
    versions="versions",
)  # fmt: skip

FRENCH = replace(_PLAIN, **{one.name: _typeset(getattr(_PLAIN, one.name)) for one in fields(_PLAIN)})
