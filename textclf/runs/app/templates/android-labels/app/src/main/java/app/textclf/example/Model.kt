package app.textclf.example

import android.content.Context
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.text.textclassifier.TextClassifier
import org.json.JSONObject

/** The labels of a text: none, one or several. `rejected`: no probability reaches the bound of the model. */
data class Labels(val labels: List<String>, val rejected: Boolean, val scores: Map<String, Float>)

/** The model in the assets, with the thresholds in model_settings.json. Not for use by several threads at once. */
class Model(context: Context) : AutoCloseable {
    private val settings = JSONObject(context.assets.open("model_settings.json").bufferedReader().use { it.readText() })
    private val labels = settings.getJSONArray("labels").let { all -> List(all.length()) { all.getString(it) } }
    private val thresholds = settings.optJSONArray("thresholds")
    private val rejectBelow = settings.getDouble("rejectBelow").toFloat()
    private val rejectLabel = settings.getString("rejectLabel")
    private val classifier = TextClassifier.createFromOptions(
        context,
        TextClassifier.TextClassifierOptions.builder()
            .setBaseOptions(BaseOptions.builder().setModelAssetPath("model.tflite").build())
            .build(),
    )

    /** Returns the labels of a text, or null for an empty one. */
    fun classify(text: String): Labels? {
        if (text.isBlank()) return null
        val categories = classifier.classify(text).classificationResult().classifications().first().categories()
        val scores = categories.associate { it.categoryName() to it.score() }
        if (thresholds != null) {
            val chosen = labels.filterIndexed { place, label -> scores.getValue(label) >= thresholds.getDouble(place).toFloat() }
            return Labels(chosen, false, scores)
        }
        val best = labels.maxBy { scores.getValue(it) }
        val rejected = scores.getValue(best) < rejectBelow
        val label = if (rejected) rejectLabel else best
        return Labels(if (label.isEmpty()) emptyList() else listOf(label), rejected, scores)
    }

    /** Returns what the example shows. */
    fun describe(texts: List<String>): String {
        val result = classify(texts.single()) ?: return ""
        val scores = result.scores.entries.sortedByDescending { it.value }.take(SHOWN)
        val lines = scores.map { (label, score) -> "%.1f %%  %s".format(100 * score, label) }
        return (listOf(result.labels.joinToString().ifEmpty { "no label" }) + lines).joinToString("\n")
    }

    override fun close() = classifier.close()

    companion object {
        val FIELDS = listOf("Text")
        const val ACTION = "Classify"
        private const val SHOWN = 8
    }
}
